"""The best of k runs, agreement between runs, and the split of the variance: against slow loops and known answers."""

import itertools
import json
import math

import numpy as np
import pytest

from study.seed_effects import agreement, expected_best, split_variance

pytestmark = pytest.mark.filterwarnings("error")


def check_plain(values):
    """json.dumps takes the values, and none of them is a type of numpy."""
    json.dumps(values, allow_nan=False)
    for value in values.values() if isinstance(values, dict) else values:
        assert value is None or type(value) in (int, float)


# expected_best


@pytest.mark.parametrize("scores", [[0.3, 0.9], [0.7, 0.2, 0.5], [0.6, 0.1, 0.6, 0.4], [0.31, 0.2, 0.92, 0.2, 0.75]])
def test_the_expected_best_is_the_mean_maximum_of_all_draws(scores):
    """All n^k draws with replacement are equally likely."""
    best = expected_best(scores)
    for k in range(1, len(scores) + 1):
        maxima = [max(draw) for draw in itertools.product(scores, repeat=k)]
        assert best[k - 1] == pytest.approx(sum(maxima) / len(scores) ** k)
    assert len(best) == len(scores)
    check_plain(best)


def test_the_expected_best_equals_the_equation_of_the_paper():
    scores = np.random.default_rng(1).integers(60, 75, size=23) / 100  # with ties
    best = expected_best(scores.tolist())
    for k in range(1, 24):
        total = 0.0
        for value in sorted(set(scores.tolist())):
            total += value * (np.mean(scores <= value) ** k - np.mean(scores < value) ** k)
        assert best[k - 1] == pytest.approx(total)


def test_the_expected_best_rises_from_the_mean_towards_the_maximum():
    scores = np.random.default_rng(2).random(41).tolist()
    best = expected_best(scores)
    assert best[0] == pytest.approx(np.mean(scores))
    assert all(earlier < later for earlier, later in itertools.pairwise(best))
    assert best[-1] < max(scores)
    assert expected_best(scores[::-1]) == best


def test_the_expected_best_of_no_score_one_score_and_equal_scores():
    assert expected_best([]) == []
    assert expected_best([0.1]) == [0.1]
    assert expected_best([0.1] * 7) == [0.1] * 7
    for bad in (math.nan, math.inf, None):
        with pytest.raises(ValueError, match="finite"):
            expected_best([0.5, bad])


# agreement

# The worked example of Wikipedia's article "Fleiss' kappa": 10 subjects, 14 raters, 5 categories. kappa = .210.
WIKIPEDIA = [
    [0, 0, 0, 0, 14],
    [0, 2, 6, 4, 2],
    [0, 0, 3, 5, 6],
    [0, 3, 9, 2, 0],
    [2, 2, 8, 1, 1],
    [7, 7, 0, 0, 0],
    [3, 2, 6, 3, 0],
    [2, 5, 3, 2, 2],
    [6, 5, 2, 1, 0],
    [0, 2, 2, 3, 7],
]


def slow_agreement(predictions):
    runs, examples = len(predictions), len(predictions[0])
    columns = list(zip(*predictions))
    equal = [sum(a == b for a, b in zip(one, other)) for one, other in itertools.combinations(predictions, 2)]
    observed = sum(equal) / len(equal) / examples
    everything = [label for column in columns for label in column]
    chance = sum((everything.count(label) / len(everything)) ** 2 for label in set(everything))
    return {
        "equal_to_all": sum(column.count(column[0]) == runs for column in columns) / examples,
        "pairwise": observed,
        "fleiss_kappa": (observed - chance) / (1 - chance) if chance < 1 else None,
    }


def test_agreement_on_the_published_example():
    rng = np.random.default_rng(0)
    columns = [rng.permutation(np.repeat(["a", "b", "c", "d", "e"], counts)) for counts in WIKIPEDIA]
    values = agreement(np.array(columns).T)
    assert round(values["fleiss_kappa"], 3) == 0.210
    assert round(values["pairwise"], 3) == 0.378
    assert values["equal_to_all"] == 0.1


@pytest.mark.parametrize("runs, examples", [(2, 13), (5, 7), (3, 40), (7, 1)])
@pytest.mark.parametrize("labels", [[0, 1], [3, -1, 2], ["entailment", "neutral", "contradiction"]])
def test_agreement_equals_a_slow_loop(runs, examples, labels):
    rng = np.random.default_rng(runs)
    truth = rng.integers(len(labels), size=examples)
    noise = rng.integers(len(labels), size=(runs, examples))
    predictions = np.array(labels)[np.where(rng.random((runs, examples)) < 0.6, truth, noise)]
    values = agreement(predictions)
    assert values == pytest.approx(slow_agreement(predictions.tolist()))
    check_plain(values)


def test_fleiss_kappa_of_two_runs_is_scotts_pi():
    """Scott 1955: chance from the labels of both runs together. Here 3 of 4 agree, and chance is (5/8)² + (3/8)²."""
    assert agreement([["x", "x", "y", "x"], ["x", "y", "y", "x"]]) == pytest.approx(
        {"equal_to_all": 0.75, "pairwise": 0.75, "fleiss_kappa": (0.75 - 34 / 64) / (1 - 34 / 64)}
    )


def test_agreement_of_runs_that_always_or_never_agree():
    assert agreement([[0, 1, 2]] * 4) == {"equal_to_all": 1.0, "pairwise": 1.0, "fleiss_kappa": 1.0}
    opposite = agreement([[0, 1, 0, 1], [1, 0, 1, 0]])
    assert opposite == {"equal_to_all": 0.0, "pairwise": 0.0, "fleiss_kappa": -1.0}


def test_agreement_is_undefined_for_one_run_and_kappa_for_one_class():
    nothing = {"equal_to_all": None, "pairwise": None, "fleiss_kappa": None}
    assert agreement([["a", "b"]]) == agreement(np.zeros((0, 5), int)) == agreement(np.zeros((3, 0), int)) == nothing
    assert agreement([]) == nothing
    for label in (1, "neutral"):
        values = agreement([[label] * 5] * 3)
        assert values == {"equal_to_all": 1.0, "pairwise": 1.0, "fleiss_kappa": None}
    # Each run gives always one class, but not the same one.
    assert agreement([[0, 0], [1, 1]]) == {"equal_to_all": 0.0, "pairwise": 0.0, "fleiss_kappa": -1.0}


@pytest.mark.parametrize("bad", [np.ones((2, 3)), [[0.5, math.nan], [0.5, 1.0]], [[1, None], [1, 2]], [0, 1, 2]])
def test_agreement_takes_only_tables_of_classes(bad):
    with pytest.raises(ValueError, match=r"\[R,N\]"):
        agreement(bad)


# split_variance


def slow_components(table):
    """The textbook sums of squares, as loops, with negative estimates as they are."""
    rows, columns = len(table), len(table[0])
    grand = sum(map(sum, table)) / (rows * columns)
    row_means = [sum(row) / columns for row in table]
    column_means = [sum(column) / rows for column in zip(*table)]
    row_square = columns * sum((mean - grand) ** 2 for mean in row_means) / (rows - 1)
    column_square = rows * sum((mean - grand) ** 2 for mean in column_means) / (columns - 1)
    error = 0.0
    for i, row in enumerate(table):
        for j, value in enumerate(row):
            error += (value - row_means[i] - column_means[j] + grand) ** 2
    error /= (rows - 1) * (columns - 1)
    return (row_square - error) / columns, (column_square - error) / rows, error


@pytest.mark.parametrize("shape", [(2, 2), (2, 7), (5, 3), (4, 11)])
def test_the_components_equal_slow_sums_of_squares(shape):
    rng = np.random.default_rng(shape[1])
    for spread in (0.0, 1.0):  # without effects of the seeds, negative estimates are common
        effects = spread * (rng.standard_normal((shape[0], 1)) + 2 * rng.standard_normal((1, shape[1])))
        table = effects + rng.standard_normal(shape)
        values = split_variance(table)
        expected = [max(0.0, component) for component in slow_components(table.tolist())]
        assert [values[name] for name in ("init", "data", "residual")] == pytest.approx(expected)
        assert values["total"] == pytest.approx(sum(expected))
        shares = [values[name] for name in ("init_share", "data_share", "residual_share")]
        assert shares == pytest.approx([component / sum(expected) for component in expected])
        check_plain(values)


def test_a_negative_estimate_is_reported_as_zero():
    table = [[0.0, 1.0], [1.0, 0.0]]  # all row means and column means are equal
    assert min(slow_components(table)) < 0
    values = split_variance(table)
    assert (values["init"], values["data"], values["residual"]) == (0.0, 0.0, 1.0)
    assert values["residual_share"] == 1.0


def test_an_additive_table_has_no_residual():
    """Every score is a row effect plus a column effect: the components are the variances (ddof 1) of the effects."""
    init, data = np.array([0.25, 0.5, 0.125]), np.array([0.0, 0.5, 0.0625, 0.75, 0.375])
    values = split_variance(init[:, None] + data)
    assert values["init"] == pytest.approx(np.var(init, ddof=1), rel=1e-12)
    assert values["data"] == pytest.approx(np.var(data, ddof=1), rel=1e-12)
    assert values["residual"] == pytest.approx(0.0, abs=1e-30)
    one_effect = split_variance(np.tile(init[:, None], 4))
    assert one_effect["init_share"] == pytest.approx(1.0) and one_effect["data"] == pytest.approx(0.0, abs=1e-30)


def test_a_transposed_table_exchanges_init_and_data():
    table = np.random.default_rng(9).standard_normal((4, 6)) + np.arange(4)[:, None]
    one, other = split_variance(table), split_variance(table.T)
    exchanged = {"init": "data", "data": "init", "init_share": "data_share", "data_share": "init_share"}
    assert one == pytest.approx({name: other[exchanged.get(name, name)] for name in one})
    assert one["init"] > one["data"]


def test_known_components_are_recovered():
    """Variances .09 (init), .01 (data) and .04 (residual) of 600 x 700 simulated scores.

    The standard error of a variance of n normal values is variance * sqrt(2 / (n - 1)); four of them are allowed.
    """
    rng = np.random.default_rng(10)
    init, data = 0.3 * rng.standard_normal((600, 1)), 0.1 * rng.standard_normal((1, 700))
    values = split_variance(0.6 + init + data + 0.2 * rng.standard_normal((600, 700)))
    assert values["init"] == pytest.approx(0.09, rel=4 * math.sqrt(2 / 599))
    assert values["data"] == pytest.approx(0.01, rel=4 * math.sqrt(2 / 699))
    assert values["residual"] == pytest.approx(0.04, rel=4 * math.sqrt(2 / (599 * 699)))


def test_the_estimates_are_right_on_average_where_none_is_negative():
    """400 tables of 4 x 6 with strong effects: the mean estimate is the true variance, within four standard errors."""
    rng = np.random.default_rng(11)
    estimates = []
    for _ in range(400):
        init, data = 3 * rng.standard_normal((4, 1)), 2 * rng.standard_normal((1, 6))
        values = split_variance(init + data + 0.1 * rng.standard_normal((4, 6)))
        estimates.append([values[name] for name in ("init", "data", "residual")])
    means, errors = np.mean(estimates, 0), np.std(estimates, 0, ddof=1) / 20
    assert (np.abs(means - [9, 4, 0.01]) < 4 * errors).all()


def test_equal_scores_have_no_variance_to_share():
    values = split_variance(np.full((3, 5), 0.1))  # in floats, the mean of 15 times .1 is not .1
    assert values == {
        "init": 0.0, "data": 0.0, "residual": 0.0, "total": 0.0,
        "init_share": None, "data_share": None, "residual_share": None,
    }  # fmt: skip
    check_plain(values)


def test_one_seed_of_a_kind_cannot_split_the_variance():
    for table in (np.ones((1, 5)), np.ones((5, 1)), np.ones((1, 1)), np.zeros((0, 3)), []):
        values = split_variance(table)
        assert len(values) == 7 and set(values.values()) == {None}


def test_a_table_with_holes_or_of_another_shape_is_an_error():
    for bad in (math.nan, math.inf, None):
        with pytest.raises(ValueError, match="finite"):
            split_variance([[0.1, 0.2], [0.3, bad]])
    for wrong in ([0.1, 0.2, 0.3], np.ones((2, 2, 2))):
        with pytest.raises(ValueError, match="table"):
            split_variance(wrong)

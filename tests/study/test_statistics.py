"""The summary of a group of runs, Holm's correction and the gap: equal to slow formulas, and defined everywhere."""

import json
import math

import numpy as np
import pytest

from study.statistics import compare, describe_gap, holm, summarize

pytestmark = pytest.mark.filterwarnings("error")


def draw(seed, *sizes):
    """Groups of scores around .7 with different means and spreads."""
    rng = np.random.default_rng(seed)
    return [(0.7 + 0.01 * i + (0.02 + 0.02 * i) * rng.standard_normal(size)).tolist() for i, size in enumerate(sizes)]


def check_plain(values):
    """json.dumps takes the values, and none of them is a type of numpy."""
    json.dumps(values, allow_nan=False)
    for value in values.values() if isinstance(values, dict) else values:
        assert value is None or type(value) in (int, float)


# summarize


@pytest.mark.parametrize("size", [2, 3, 10, 37])
def test_a_summary_equals_slow_formulas(size):
    (scores,) = draw(size, size)
    values = summarize(scores)
    mean = sum(scores) / size
    ordered = sorted(scores)
    assert values["n"] == size
    assert values["mean"] == pytest.approx(mean)
    assert values["std"] == pytest.approx(math.sqrt(sum((score - mean) ** 2 for score in scores) / (size - 1)))
    assert values["median"] == pytest.approx((ordered[(size - 1) // 2] + ordered[size // 2]) / 2)
    assert (values["min"], values["max"]) == (ordered[0], ordered[-1])
    check_plain(values)


def test_the_interval_of_a_mean_is_the_percentile_bootstrap():
    """Against a bootstrap in numpy with its own random numbers. 400,000 resamples leave it an error of .5 %."""
    (scores,) = draw(1, 9)
    rng = np.random.default_rng(5)
    means = np.array(scores)[rng.integers(9, size=(400_000, 9))].mean(1)
    values, deviation = summarize(scores), means.std()
    # The standard error of the 2.5 % quantile from 10,000 resamples is .027 standard deviations of the mean.
    assert values["low"] == pytest.approx(np.quantile(means, 0.025), abs=0.1 * deviation)
    assert values["high"] == pytest.approx(np.quantile(means, 0.975), abs=0.1 * deviation)


def test_the_interval_depends_on_the_scores_and_not_on_their_order():
    scores, baseline = draw(2, 13, 6)
    state = np.random.get_state()[1].tolist()
    first = summarize(scores)
    assert summarize(scores[::-1]) == pytest.approx(first, abs=1e-15)
    assert summarize(scores) == first
    swapped = compare(scores[::-1], [*baseline[3:], *baseline[:3]])
    assert [swapped[name] for name in ("low", "high")] == [compare(scores, baseline)[name] for name in ("low", "high")]
    assert np.random.get_state()[1].tolist() == state  # the global generator belongs to training


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    samples = 0.6 + 0.1 * rng.standard_normal((200, 30))
    hits = sum(values["low"] <= 0.6 <= values["high"] for values in map(summarize, samples.tolist()))
    assert 0.88 * 200 <= hits <= 0.99 * 200  # 93 to 94 % expected for 30 values


def test_a_summary_of_no_score_one_score_and_equal_scores():
    empty = summarize([])
    assert empty.pop("n") == 0 and set(empty.values()) == {None} and len(empty) == 7
    one = {"n": 1, "mean": 0.1, "std": None, "median": 0.1, "min": 0.1, "max": 0.1, "low": None, "high": None}
    assert summarize([0.1]) == one
    for size in (2, 3, 7):  # three times .1 has a mean above .1 and a standard deviation of 1e-17 in floats
        same = dict.fromkeys(("mean", "median", "min", "max", "low", "high"), 0.1) | {"n": size, "std": 0.0}
        assert summarize([0.1] * size) == same


def test_rounding_is_no_spread():
    almost = [0.3, 0.1 + 0.2, 0.3]  # 0.1 + 0.2 is above 0.3
    assert almost[0] != almost[1]
    assert summarize(almost)["std"] == 0.0
    values = compare(almost, [0.5, 0.5])
    assert values.pop("difference") == values.pop("low") == values.pop("high") == pytest.approx(-0.2)
    assert values.pop("mann_whitney_u") == 0.0 and values.pop("mann_whitney_p") is not None
    assert values.pop("distance") == values.pop("baseline_distance") == 0.0
    assert set(values.values()) == {None}


def test_rounding_grows_with_the_size_of_the_values():
    large = math.nextafter(3e5, math.inf)  # the next number that a float can hold, 6e-11 away
    assert summarize([3e5, large, 3e5])["std"] == 0.0
    assert summarize([3e5, 3e5 + 1e-4])["std"] == pytest.approx(1e-4 / math.sqrt(2), rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, None])
def test_a_score_that_is_no_number_is_an_error(bad):
    good = [0.5, 0.6, 0.7]
    for call in (
        lambda: summarize([0.5, bad]),
        lambda: compare([0.5, bad, 0.7], good),
        lambda: compare(good, [0.5, bad, 0.7]),
        lambda: describe_gap([0.5, bad], [0.5, 0.6]),
        lambda: describe_gap([0.5, 0.6], [0.5, bad]),
    ):
        with pytest.raises(ValueError, match="finite"):
            call()


def test_a_table_in_place_of_a_list_is_an_error():
    with pytest.raises(ValueError, match="shape"):
        summarize(np.ones((2, 3)))


# holm


def slow_holm(p_values):
    """The smallest level at which the step-down procedure of Holm 1979 rejects each hypothesis."""
    adjusted = []
    for i in range(len(p_values)):
        levels = sorted({min(1.0, count * p) for p in p_values for count in range(1, len(p_values) + 1)} | {1.0})
        adjusted.append(next(level for level in levels if level == 1.0 or i in rejected(p_values, level)))
    return adjusted


def rejected(p_values, level):
    done = set()
    for i in sorted(range(len(p_values)), key=lambda i: p_values[i]):
        if p_values[i] * (len(p_values) - len(done)) > level:
            break
        done.add(i)
    return done


def test_holm_equals_the_step_down_procedure():
    rng = np.random.default_rng(7)
    for size in range(1, 9):
        p_values = np.round(rng.random(size) ** 3, 2).tolist()  # many small ones, some ties
        assert holm(p_values) == slow_holm(p_values)


def test_holm_on_an_example_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9, 0.02]) == pytest.approx([1.0, 1.0, 0.06])


def test_holm_leaves_undefined_tests_out_of_the_family():
    first, second, third = holm([0.02, 0.01, 0.3])
    assert holm([None, 0.02, None, 0.01, 0.3]) == [None, first, None, second, third]
    assert holm([]) == [] and holm([None, None]) == [None, None]
    assert holm([0.03, None]) == [0.03, None]
    assert holm([0.0, 1.0]) == [0.0, 1.0]
    check_plain(holm([np.float64(0.02), None, np.float64(0.5)]))


@pytest.mark.parametrize("bad", [math.nan, -0.1, 1.1, math.inf])
def test_holm_takes_only_probabilities(bad):
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([0.5, bad, 0.1])


# describe_gap


def test_the_gap_is_paired_by_run():
    train, dev = [0.9, 0.99, 0.95, 1.0], [0.7, 0.72, 0.75, 0.6]
    gaps = [a - b for a, b in zip(train, dev)]
    values = describe_gap(train, dev)
    expected = {"train_mean": 0.96, "dev_mean": 0.6925, "gap_mean": 0.2675, "gap_std": np.std(gaps, ddof=1)}
    assert values == pytest.approx(expected)
    check_plain(values)
    shuffled = describe_gap(train, [0.6, 0.7, 0.72, 0.75])
    assert shuffled["gap_mean"] == pytest.approx(values["gap_mean"])
    assert shuffled["gap_std"] != pytest.approx(values["gap_std"])


def test_the_gap_of_no_run_one_run_and_equal_gaps():
    assert set(describe_gap([], []).values()) == {None}
    assert describe_gap([0.9], [0.5]) == {"train_mean": 0.9, "dev_mean": 0.5, "gap_mean": 0.4, "gap_std": None}
    dev = [0.1, 0.25, 0.7]
    assert describe_gap([score + 0.2 for score in dev], dev)["gap_std"] == 0.0
    with pytest.raises(ValueError, match="2 train scores and 1 dev scores"):
        describe_gap([0.9, 0.8], [0.5])

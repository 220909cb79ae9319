"""The comparison of two groups of runs: equal to scipy and to slow formulas, and defined everywhere."""

import itertools
import json
import math

import numpy as np
import pytest
from scipy import stats

from study.statistics import compare, seeds_needed, summarize

pytestmark = pytest.mark.filterwarnings("error")

SIZES = [(5, 12), (3, 7), (25, 2), (11, 11), (2, 3)]
TESTS = ("welch_t", "welch_p", "mann_whitney_u", "mann_whitney_p", "levene_w", "levene_p")
COMPARISON = ["difference", "low", "high", *TESTS, "distance", "baseline_distance", "cohens_d", "seeds_needed"]


def draw(seed, *sizes):
    """Groups of scores around .7 with different means and spreads."""
    rng = np.random.default_rng(seed)
    return [(0.7 + 0.01 * i + (0.02 + 0.02 * i) * rng.standard_normal(size)).tolist() for i, size in enumerate(sizes)]


def check_plain(values):
    """json.dumps takes the values, and none of them is a type of numpy."""
    json.dumps(values, allow_nan=False)
    for value in values.values() if isinstance(values, dict) else values:
        assert value is None or type(value) in (int, float)


# compare


@pytest.mark.parametrize("center", ["median", "mean"])
@pytest.mark.parametrize("sizes", SIZES)
def test_a_comparison_equals_scipy(sizes, center):
    scores, baseline = draw(sum(sizes), *sizes)
    values = compare(scores, baseline, center)
    welch = stats.ttest_ind(scores, baseline, equal_var=False)
    mann_whitney = stats.mannwhitneyu(scores, baseline)
    levene = stats.levene(scores, baseline, center=center)
    expected = [*welch, *mann_whitney, *levene]
    assert [values[name] for name in TESTS] == pytest.approx(expected, rel=1e-9)
    assert list(values) == COMPARISON
    check_plain(values)


@pytest.mark.parametrize("sizes", SIZES)
def test_a_comparison_equals_slow_formulas(sizes):
    x, y = draw(100 + sum(sizes), *sizes)
    values = compare(x, y)
    (n, m), (mean_x, mean_y) = sizes, (sum(x) / len(x), sum(y) / len(y))
    squares_x, squares_y = sum((v - mean_x) ** 2 for v in x), sum((v - mean_y) ** 2 for v in y)
    assert values["difference"] == pytest.approx(mean_x - mean_y)
    error = math.sqrt(squares_x / (n - 1) / n + squares_y / (m - 1) / m)
    assert values["welch_t"] == pytest.approx((mean_x - mean_y) / error)
    assert values["mann_whitney_u"] == sum((a > b) + (a == b) / 2 for a in x for b in y)
    pooled = math.sqrt((squares_x + squares_y) / (n + m - 2))
    assert values["cohens_d"] == pytest.approx((mean_x - mean_y) / pooled)
    for center, find_center in (("median", np.median), ("mean", np.mean)):
        distances = [[abs(v - find_center(group)) for v in group] for group in (x, y)]
        means = [sum(group) / len(group) for group in distances]
        grand = sum(map(sum, distances)) / (n + m)
        between = n * (means[0] - grand) ** 2 + m * (means[1] - grand) ** 2
        within = sum((z - mean) ** 2 for group, mean in zip(distances, means) for z in group)
        values = compare(x, y, center)
        assert values["levene_w"] == pytest.approx((n + m - 2) * between / within)
        assert [values["distance"], values["baseline_distance"]] == pytest.approx(means)


def test_the_median_is_the_center_unless_the_mean_is_asked_for():
    x, y = [0.1, 0.2, 0.9, 0.3], [0.4, 0.6, 0.7, 0.1, 0.65]
    assert compare(x, y) == compare(x, y, "median")
    assert compare(x, y)["levene_w"] != pytest.approx(compare(x, y, "mean")["levene_w"])
    with pytest.raises(ValueError, match="trimmed"):
        compare(x, y, "trimmed")


def test_the_interval_of_a_difference_resamples_both_groups():
    x, y = draw(8, 7, 15)
    rng = np.random.default_rng(6)
    means = [np.array(g)[rng.integers(len(g), size=(200_000, len(g)))].mean(1) for g in (x, y)]
    differences = means[0] - means[1]
    values, deviation = compare(x, y), differences.std()
    assert values["low"] == pytest.approx(np.quantile(differences, 0.025), abs=0.1 * deviation)
    assert values["high"] == pytest.approx(np.quantile(differences, 0.975), abs=0.1 * deviation)
    # Independently: the same scores in both groups do not cancel.
    same = compare(x, x)
    assert same["low"] < -0.001 and same["high"] > 0.001


@pytest.mark.parametrize("center", ["median", "mean"])
def test_levene_ignores_shifts_and_a_common_scale(center):
    x, y = draw(11, 9, 14)
    expected = compare(x, y, center)["levene_w"]
    shifted = compare([v + 0.15 for v in x], [v - 0.2 for v in y], center)
    scaled = compare([v * 0.25 for v in x], [v * 0.25 for v in y], center)
    assert shifted["levene_w"] == pytest.approx(expected, rel=1e-9)
    assert scaled["levene_w"] == pytest.approx(expected, rel=1e-9)
    assert shifted["welch_t"] != pytest.approx(compare(x, y)["welch_t"])
    assert compare([v * 4 for v in x], y, center)["levene_w"] != pytest.approx(expected, rel=0.01)


def test_exchanging_the_groups_changes_the_signs():
    x, y = draw(12, 6, 9)
    one, other = compare(x, y), compare(y, x)
    for name in ("difference", "welch_t", "cohens_d"):
        assert one[name] == pytest.approx(-other[name])
    for name in ("welch_p", "mann_whitney_p", "levene_w", "levene_p", "seeds_needed"):
        assert one[name] == pytest.approx(other[name])
    assert one["mann_whitney_u"] + other["mann_whitney_u"] == 6 * 9


SOME = [0.5, 0.7, 0.65]
DEGENERATE = [
    # scores, baseline, the quantities that are defined
    ([], [], ""),
    ([], SOME, ""),
    (SOME, [], ""),
    ([0.1], [0.2], "difference mann_whitney"),
    ([0.1], [0.1], "difference"),
    ([0.9], SOME, "difference mann_whitney"),
    (SOME, [0.9], "difference mann_whitney"),
    ([0.1] * 3, [0.1] * 5, "difference interval"),
    ([0.1] * 3, [0.7] * 5, "difference interval mann_whitney"),
    ([0.1] * 3, SOME, "difference interval welch mann_whitney levene effect seeds"),
    (SOME, [0.1] * 4, "difference interval welch mann_whitney levene effect seeds"),
    (SOME, SOME, "difference interval welch mann_whitney levene effect"),
    ([0.1, 0.3], [0.2, 0.9], "difference interval welch mann_whitney effect seeds"),  # all distances are equal
    ([0.1, 0.3] * 3, [0.2, 0.7] * 2, "difference interval welch mann_whitney effect seeds"),
    ([0.1, 0.3], SOME, "difference interval welch mann_whitney levene effect seeds"),
    ([0.5, 0.5], [0.5, 0.7], "difference interval welch mann_whitney effect seeds"),
    ([0.0, 5e-324], [0.0, 0.0], "difference interval"),
]
PARTS = {
    "difference": ["difference"],
    "interval": ["low", "high"],
    "welch": ["welch_t", "welch_p"],
    "mann_whitney": ["mann_whitney_u", "mann_whitney_p"],
    "levene": ["levene_w", "levene_p"],
    "effect": ["cohens_d"],
    "seeds": ["seeds_needed"],
}


@pytest.mark.parametrize("center", ["median", "mean"])
@pytest.mark.parametrize("scores, baseline, defined", DEGENERATE)
def test_degenerate_groups_leave_exactly_the_undefined_quantities_out(scores, baseline, defined, center):
    values = compare(scores, baseline, center)
    names = {name for part in defined.split() for name in PARTS[part]}
    names |= {name for name, group in (("distance", scores), ("baseline_distance", baseline)) if group}
    assert {name for name, value in values.items() if value is not None} == names
    check_plain(values)


def test_constant_groups_have_their_difference_as_interval():
    values = compare([0.1] * 3, [0.7] * 5)
    assert values["difference"] == values["low"] == values["high"] == 0.1 - 0.7


def test_equal_groups_do_not_differ():
    values = compare(SOME, SOME)
    assert values["difference"] == values["welch_t"] == values["cohens_d"] == values["levene_w"] == 0
    assert values["welch_p"] == values["levene_p"] == 1 and values["mann_whitney_p"] == pytest.approx(1)
    assert values["low"] < 0 < values["high"]


def test_one_constant_group_has_the_t_of_the_formula():
    """scipy.stats.ttest_ind gives the same number with a warning."""
    values = compare([0.1] * 3, SOME)
    spread = np.std(SOME, ddof=1)
    t = (0.1 - np.mean(SOME)) / (spread / math.sqrt(3))
    assert values["welch_t"] == pytest.approx(t)
    assert values["welch_p"] == pytest.approx(2 * stats.t.sf(abs(t), 2))
    assert values["cohens_d"] == pytest.approx((0.1 - np.mean(SOME)) / math.sqrt(spread**2 / 2))


def test_random_groups_with_many_ties_give_plain_finite_numbers():
    rng = np.random.default_rng(3)
    for _ in range(150):
        x, y = (rng.integers(4, size=rng.integers(7)) / rng.choice([3, 10, 277]) for _ in range(2))
        check_plain(compare(x, y, rng.choice(["median", "mean"])))
        check_plain(summarize(x.tolist()))


# seeds_needed


@pytest.mark.parametrize("effect, n", [(0.2, 393.4057), (0.5, 63.76561), (0.8, 25.52458), (1.0, 16.71473)])
def test_the_seeds_needed_are_those_of_pwr(effect, n):
    """R: pwr.t.test(d = effect, power = .8) solves for a real n."""
    assert seeds_needed(effect) == seeds_needed(-effect) == math.ceil(n)


def exact_power(effect, n):
    """By integration over the pooled variance, without the noncentral t: given it, t's numerator is normal."""
    degrees = 2 * n - 2
    critical, shift = stats.t.ppf(0.975, degrees), effect * math.sqrt(n / 2)
    shares = (np.arange(200_000) + 0.5) / 200_000
    bounds = critical * np.sqrt(stats.chi2.ppf(shares, degrees) / degrees)
    return float(np.mean(stats.norm.sf(bounds - shift) + stats.norm.cdf(-bounds - shift)))


@pytest.mark.parametrize("effect", [0.037, 0.3, 0.77, 1.5, 2.05, 3.1, 4.4, 5.6, 6.9])
def test_the_power_passes_80_percent_just_at_the_seeds_needed(effect):
    n = seeds_needed(effect)
    assert exact_power(effect, n) >= 0.8
    assert n == 2 or exact_power(effect, n - 1) < 0.8


def test_the_seeds_needed_by_simulation():
    rng = np.random.default_rng(4)
    n = seeds_needed(1.3)
    x, y = rng.standard_normal((2, 40_000, n))
    significant = stats.ttest_ind(x + 1.3, y, axis=1).pvalue < 0.05
    assert 0.8 - 0.006 < significant.mean() < 0.85  # 3 standard errors are .006; n = 11 has a power of .83


def test_the_seeds_needed_fall_with_the_effect_and_end_at_2():
    effects = np.exp(np.linspace(math.log(0.013), math.log(50), 1500)).tolist()
    counts = [seeds_needed(effect) for effect in effects]
    assert all(later <= earlier for earlier, later in itertools.pairwise(counts))
    assert counts[0] > 90_000 and counts[-1] == seeds_needed(1e300) == 2
    assert type(counts[0]) is int


def test_no_number_of_seeds_is_given_without_an_effect_or_above_100_000():
    assert seeds_needed(None) is None and seeds_needed(0.0) is None and seeds_needed(1e-300) is None
    too_small, enough = 0.0125, 0.0126
    for _ in range(50):  # narrow down the smallest effect that has a number
        middle = (too_small + enough) / 2
        too_small, enough = (middle, enough) if seeds_needed(middle) is None else (too_small, middle)
    assert seeds_needed(too_small) is None and seeds_needed(enough) == 100_000


def test_a_comparison_needs_the_seeds_of_its_effect():
    x, y = draw(21, 10, 14)
    values = compare(x, y)
    assert values["seeds_needed"] == seeds_needed(values["cohens_d"]) > 2

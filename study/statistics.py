"""The statistics of a study: the scores of one group of runs, and two groups compared. seed_effects.py has the rest.

Pure functions on scores from 0 to 1. A quantity that is undefined is None: for example the standard deviation of one
score, or a test of two groups without spread. NaN and infinity are errors: the caller removes the runs without a score
first. The results are Python's own numbers, so that json.dumps(..., allow_nan=False) takes them.
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

from study.results import Numbers

RESAMPLES = 10_000  # of the bootstrap
ALPHA, POWER = 0.05, 0.8  # of the planned t test, as in Cohen 1988
MOST_SEEDS = 100_000
# Scores that differ by less than this differ only by rounding: one example in a billion changes an accuracy by more.
# Rounding gives equal scores a spread of about 1e-17, and a test that divides by this spread gives a huge statistic.
ROUNDING = 1e-12


def summarize(scores: Sequence[float]) -> Numbers:
    """n, mean, std (ddof 1), median, min, max, and the 95 % interval of the mean: low, high.

    The interval is the percentile bootstrap (Efron and Tibshirani 1993, An Introduction to the Bootstrap, chapter 13).
    With one score, std, low and high are None. With no score, all except n are None. ValueError: a score is NaN or
    infinite.
    """
    values = to_values(scores)
    low, high = bootstrap_interval(values)
    return {
        "n": len(values),
        "mean": mean(values),
        "std": standard_deviation(values),
        "median": float(np.median(values)) if len(values) else None,
        "min": float(values.min()) if len(values) else None,
        "max": float(values.max()) if len(values) else None,
        "low": low,
        "high": high,
    }


def compare(scores: Sequence[float], baseline: Sequence[float], center: str = "median") -> Numbers:
    """Compare two independent groups of runs; their sizes may differ.

    difference: mean of the scores minus mean of the baseline, with its 95 % percentile bootstrap interval low, high
        (both groups are resampled; Efron and Tibshirani 1993, chapters 8 and 13)
    welch_t, welch_p: are the means equal? The variances may differ. Welch 1947: t = difference / √(s₁²/n₁ + s₂²/n₂)
    mann_whitney_u, mann_whitney_p: are the distributions equal? Mann and Whitney 1947: U counts the pairs in which the
        score is above the baseline's score; a tie counts 1/2
    levene_w, levene_p: are the variances equal? F test of the distances to the group's center; center "mean" is
        Levene 1960, "median" is Brown and Forsythe 1974
    distance, baseline_distance: the mean distance to the center in each group, which this test compares
    cohens_d: difference / pooled standard deviation (ddof 1), Cohen 1988, Statistical Power Analysis, section 2.5
    seeds_needed: runs in each group that a t test needs to see an effect of this size, see seeds_needed()

    The p values are two-sided where a test has two sides, and not corrected: see holm(). A quantity is None where too
    few scores or no spread leave it undefined. ValueError: a score is NaN or infinite, or center is unknown.
    """
    if center not in ("median", "mean"):
        raise ValueError(f"center is median or mean, not {center!r}")
    x, y = to_values(scores), to_values(baseline)
    low, high = bootstrap_interval(x, y)
    welch_t, welch_p = welch(x, y)
    mann_whitney_u, mann_whitney_p = mann_whitney(x, y)
    levene_w, levene_p = levene(x, y, center)
    effect = cohens_d(x, y)
    return {
        "difference": mean(x) - mean(y) if len(x) and len(y) else None,
        "low": low,
        "high": high,
        "welch_t": welch_t,
        "welch_p": welch_p,
        "mann_whitney_u": mann_whitney_u,
        "mann_whitney_p": mann_whitney_p,
        "levene_w": levene_w,
        "levene_p": levene_p,
        "distance": mean_distance(x, center),
        "baseline_distance": mean_distance(y, center),
        "cohens_d": effect,
        "seeds_needed": seeds_needed(effect),
    }


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """The p values after Holm's step-down correction (Holm 1979), in the order of the input.

    Sorted p₍₁₎ <= ... <= p₍ₘ₎ become max over j <= i of min(1, (m - j + 1) p₍ⱼ₎). An undefined test (None) stays None
    and does not count in m. ValueError: a p value is NaN or not from 0 to 1.
    """
    tested = [i for i, p in enumerate(p_values) if p is not None]
    adjusted: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, i in enumerate(sorted(tested, key=lambda i: p_values[i])):
        if not 0 <= p_values[i] <= 1:
            raise ValueError(f"a p value is from 0 to 1, not {p_values[i]}")
        largest = max(largest, min(1.0, (len(tested) - rank) * float(p_values[i])))
        adjusted[i] = largest
    return adjusted


def describe_gap(train_scores: Sequence[float], dev_scores: Sequence[float]) -> Numbers:
    """train_mean, dev_mean, and gap_mean, gap_std (ddof 1) of train score minus dev score, paired by run.

    This is the generalisation gap: how much better a model is on the data that it was trained on. ValueError: the lists
    differ in length, or a score is NaN or infinite.
    """
    train, dev = to_values(train_scores), to_values(dev_scores)
    if len(train) != len(dev):
        raise ValueError(f"{len(train)} train scores and {len(dev)} dev scores are not pairs")
    gaps = train - dev
    return {
        "train_mean": mean(train),
        "dev_mean": mean(dev),
        "gap_mean": mean(gaps),
        "gap_std": standard_deviation(gaps),
    }


def to_values(scores: Sequence[float]) -> np.ndarray:
    """The scores as float64 [n]. ValueError: a score is None, NaN or infinite, or the scores are not one list."""
    values = np.asarray(scores, np.float64)
    if values.ndim != 1:
        raise ValueError(f"scores are a list of numbers, not an array of shape {values.shape}")
    if not np.isfinite(values).all():
        raise ValueError("a score is not a finite number: remove the failed runs first")
    return values


def has_spread(values: np.ndarray) -> bool:
    """Do the values (at least one) differ by more than rounding?"""
    return bool(np.ptp(values) > ROUNDING * max(1.0, np.abs(values).max()))


def mean(values: np.ndarray) -> float | None:
    """The mean; equal values give exactly this value (rounding puts numpy's mean of .1, .1, .1 above .1)."""
    if len(values) == 0:
        return None
    return float(values.mean() if has_spread(values) else values[0])


def standard_deviation(values: np.ndarray) -> float | None:
    """The standard deviation with ddof 1, exactly 0 for equal values; None for fewer than 2."""
    if len(values) < 2:
        return None
    return float(values.std(ddof=1)) if has_spread(values) else 0.0


def mean_difference(x: np.ndarray, y: np.ndarray, axis: int) -> np.ndarray:
    """The difference of the means along an axis: [resamples,n] and [resamples,m] -> [resamples]."""
    return x.mean(axis) - y.mean(axis)


def bootstrap_interval(*groups: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """The 95 % percentile bootstrap interval of one group's mean, or of the difference of two groups' means.

    Each group is resampled independently. The generator has a fixed seed and the values are sorted first, so that the
    same scores give the same interval in any order. (None, None) if a group has fewer than 2 values.
    """
    if min(len(values) for values in groups) < 2:
        return None, None
    if not any(has_spread(values) for values in groups):
        center = mean(groups[0]) - (mean(groups[1]) if len(groups) == 2 else 0.0)
        return center, center
    interval = stats.bootstrap(
        [np.sort(values) for values in groups],
        np.mean if len(groups) == 1 else mean_difference,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=np.random.default_rng(0),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def welch(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """Welch's t and its two-sided p; undefined if a group has fewer than 2 values or neither has a spread."""
    if min(len(x), len(y)) < 2 or not (has_spread(x) or has_spread(y)):
        return None, None
    # From means and standard deviations, because scipy.stats.ttest_ind warns if one of the groups is constant.
    groups = (mean(x), standard_deviation(x), len(x), mean(y), standard_deviation(y), len(y))
    result = stats.ttest_ind_from_stats(*groups, equal_var=False)
    return float(result.statistic), float(result.pvalue)


def mann_whitney(x: np.ndarray, y: np.ndarray) -> tuple[float, float] | tuple[None, None]:
    """Mann and Whitney's U of x and its two-sided p; undefined if a group is empty or all values are tied.

    scipy computes p exactly for small groups without ties, otherwise from the normal approximation.
    """
    if len(x) == 0 or len(y) == 0 or not has_spread(np.concatenate([x, y])):
        return None, None
    result = stats.mannwhitneyu(x, y)
    return float(result.statistic), float(result.pvalue)


def levene(x: np.ndarray, y: np.ndarray, center: str) -> tuple[float, float] | tuple[None, None]:
    """Levene's W and its p; undefined if a group has fewer than 2 values or all distances to the center are equal.

    W divides by the spread of the distances within the groups. This spread is 0 for two constant groups, for two groups
    of two scores, and for groups in which half of the scores have one value and the other half another value.
    """
    if min(len(x), len(y)) < 2:
        return None, None
    # In all these cases the mean is also the median, so this check is right for both centers.
    if not any(has_spread(np.abs(values - mean(values))) for values in (x, y)):
        return None, None
    result = stats.levene(x, y, center=center)
    return float(result.statistic), float(result.pvalue)


def mean_distance(values: np.ndarray, center: str) -> float | None:
    """The mean distance of the values to their mean or median; None without values."""
    if len(values) == 0:
        return None
    middle = np.median(values) if center == "median" else values.mean()
    return float(np.abs(values - middle).mean()) if has_spread(values) else 0.0


def cohens_d(x: np.ndarray, y: np.ndarray) -> float | None:
    """Difference of the means / pooled standard deviation; undefined where Welch's t is."""
    if min(len(x), len(y)) < 2 or not (has_spread(x) or has_spread(y)):
        return None
    squares = (len(x) - 1) * standard_deviation(x) ** 2 + (len(y) - 1) * standard_deviation(y) ** 2
    return (mean(x) - mean(y)) / math.sqrt(squares / (len(x) + len(y) - 2))


def seeds_needed(effect: float | None) -> int | None:
    """The smallest n >= 2 with which a two-sided t test of two groups of n runs at level .05 has power .8.

    `effect` is Cohen's d. Under this effect t has a noncentral t distribution with 2n - 2 degrees of freedom and
    noncentrality d √(n/2) (Cohen 1988, chapter 2). None if the effect is None or 0, or if n is above 100,000.
    """
    # With known variances n = 2 (z / d)² runs are enough, and a t test needs a few more: the search starts there.
    z = stats.norm.isf(ALPHA / 2) + stats.norm.isf(1 - POWER)
    if effect is None or abs(effect) < z * math.sqrt(2 / MOST_SEEDS):
        return None
    effect = min(abs(effect), 7.0)  # 2 runs are enough for it, and scipy gives NaN for a huge noncentrality
    n = max(2, math.ceil(2 * (z / effect) ** 2))
    while t_test_power(effect, n) < POWER:
        n += 1
    return n if n <= MOST_SEEDS else None


def t_test_power(effect: float, n: int) -> float:
    """The power of a two-sided t test with n runs in each group for an effect above 0.

    The probability of a significant difference in the wrong direction is left out: where the power is about .8, it is
    about 1e-6 or less, and scipy gives NaN for it when the noncentrality is large.
    """
    degrees = 2 * n - 2
    critical = stats.t.isf(ALPHA / 2, degrees)
    return float(stats.nct.sf(critical, degrees, effect * math.sqrt(n / 2)))

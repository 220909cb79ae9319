"""What changes with the seed: the best of k runs, the agreement between runs, the variance of init and data seeds.

Pure functions on numbers. A quantity that is undefined is None, and the results are Python's own numbers.
"""

from collections.abc import Sequence

import numpy as np

from study.results import Numbers
from study.statistics import has_spread, to_values


def expected_best(scores: Sequence[float]) -> list[float]:
    """The expected maximum of k = 1 .. n runs, drawn with replacement from these n scores.

    Dodge et al. 2019, "Show Your Work", section 3.1, equation 8: E[V*ₖ] = Σᵢ vᵢ (P(V ≤ vᵢ)ᵏ - P(V < vᵢ)ᵏ), where P is
    the empirical distribution of the scores. No score gives []. ValueError: a score is NaN or infinite.
    """
    values = np.sort(to_values(scores))
    n = len(values)
    # The same sum, from the steps between neighbours: the best of k runs is below the step from vᵢ to vᵢ₊₁ with
    # probability (i/n)ᵏ. Equal scores then give exactly this score, and rounding cannot make the curve fall.
    steps, below = np.diff(values), np.arange(1, n) / n
    return [float(values[-1] - np.sum(steps * below**k)) for k in range(1, n + 1)]


def agreement(predictions: np.ndarray) -> Numbers:
    """How far R runs agree on N examples. predictions [R,N]: class labels, strings or integers.

    equal_to_all: share of the examples on which all runs agree
    pairwise: mean over all pairs of runs of the share of equal predictions; the P of Fleiss 1971
    fleiss_kappa: agreement above chance, (P - Pₑ) / (1 - Pₑ), where Pₑ is the sum over the classes of the squared share
        of all predictions (Fleiss 1971); None if all predictions are one class, because Pₑ is 1 then

    All are None for fewer than 2 runs or no example. ValueError: the predictions are not a table of classes.
    """
    predictions = np.asarray(predictions)
    if predictions.size == 0:
        return {"equal_to_all": None, "pairwise": None, "fleiss_kappa": None}
    if predictions.ndim != 2 or predictions.dtype.kind not in "iubUS":
        raise ValueError(f"predictions are strings or integers [R,N], not {predictions.dtype} {predictions.shape}")
    runs = len(predictions)
    if runs < 2:
        return {"equal_to_all": None, "pairwise": None, "fleiss_kappa": None}
    classes = np.unique(predictions)
    counts = np.stack([(predictions == name).sum(0) for name in classes])  # [C,N]: runs that predict this class
    pairs = (counts * (counts - 1)).sum(0) / (runs * (runs - 1))  # [N]: share of the pairs of runs that agree
    observed, chance = float(pairs.mean()), float(((counts.sum(1) / predictions.size) ** 2).sum())
    return {
        "equal_to_all": float((counts.max(0) == runs).mean()),
        "pairwise": observed,
        "fleiss_kappa": (observed - chance) / (1 - chance) if len(classes) > 1 else None,
    }


def split_variance(scores: np.ndarray) -> Numbers:
    """Split the variance of the scores [I,D] of I init seeds x D data seeds into its components.

    The model: score = mean + init effect + data effect + residual, all effects random, one run for each pair of
    seeds. The residual contains the interaction of the two seeds. ANOVA estimators: the mean squares are set equal to
    their expected values (Searle, Casella and McCulloch 1992, Variance Components, chapter 4). A negative estimate is
    reported as 0.

    init, data, residual: the variance components; total: their sum
    init_share, data_share, residual_share: their shares of the total; None if all scores are equal

    All are None for fewer than 2 init seeds or 2 data seeds. ValueError: a score is NaN or infinite, or the scores are
    not a table.
    """
    names = ("init", "data", "residual", "total", "init_share", "data_share", "residual_share")
    table = np.asarray(scores, np.float64)
    if table.size and table.ndim != 2:
        raise ValueError(f"scores are a table [init seeds, data seeds], not an array of shape {table.shape}")
    to_values(table.ravel())  # raises the error for NaN
    if min(table.shape) < 2:
        return dict.fromkeys(names)
    components = variance_components(table) if has_spread(table) else [0.0, 0.0, 0.0]
    total = sum(components)
    shares = [component / total if total else None for component in components]
    return dict(zip(names, [*components, total, *shares]))


def variance_components(table: np.ndarray) -> list[float]:
    """Init, data and residual variance of a table [I,D] with I, D >= 2; negative estimates become 0."""
    init_seeds, data_seeds = table.shape
    init_effects = table.mean(1, keepdims=True) - table.mean()  # [I,1]
    data_effects = table.mean(0, keepdims=True) - table.mean()  # [1,D]
    residuals = table - table.mean() - init_effects - data_effects  # [I,D]
    init_square = data_seeds * (init_effects**2).sum() / (init_seeds - 1)
    data_square = init_seeds * (data_effects**2).sum() / (data_seeds - 1)
    residual = (residuals**2).sum() / ((init_seeds - 1) * (data_seeds - 1))
    # Expected mean squares: init_square = residual + D * init, data_square = residual + I * data.
    init, data = (init_square - residual) / data_seeds, (data_square - residual) / init_seeds
    return [max(0.0, float(init)), max(0.0, float(data)), float(residual)]

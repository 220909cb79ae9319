"""The cells of a study with their statistics, each compared with its baseline."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from minbert.training.step_lines import is_number
from study import seed_effects, statistics
from study.results import Cell, Numbers, Result, find_point

TESTS = ("welch_p", "mann_whitney_p", "levene_p")


def measure_cells(cells: Sequence[Cell], baselines: dict[str, str], center: str = "median") -> list[Result]:
    """The statistics of each cell, in the order of the cells. baselines: method -> the method it is compared with.

    center: of Levene's test, median or mean.

    Holm's correction runs over all comparisons of the report, for each test on its own.
    """
    alone = [Result(cell, statistics.summarize(cell.scores), measure_gap(cell), split_variance(cell)) for cell in cells]
    results = [compare_with_baseline(result, alone, baselines, center) for result in alone]
    correct_for_many([result.comparison for result in results if result.comparison is not None])
    return results


def measure_gap(cell: Cell) -> Numbers | None:
    """statistics.describe_gap of the runs that have both scores, and their number as n; None if no run has both."""
    rows = [row for row in cell.scored_rows if is_number(row.train_score)]
    if not rows or not cell.is_whole_run:
        return None
    gap = statistics.describe_gap([row.train_score for row in rows], [row.score for row in rows])
    return {"n": len(rows), **gap}


def split_variance(cell: Cell) -> Numbers | None:
    """seed_effects.split_variance, and the numbers of seeds as init_seeds and data_seeds.

    None unless each of 2 or more init seeds has a score with each of 2 or more data seeds.
    """
    scores = {(row.init_seed, row.data_seed): row.score for row in cell.scored_rows}
    inits, orders = sorted({init for init, _ in scores}), sorted({order for _, order in scores})
    if min(len(inits), len(orders)) < 2 or len(scores) < len(inits) * len(orders):
        return None
    table = np.array([[scores[init, order] for order in orders] for init in inits])  # [I,D]
    return {"init_seeds": len(inits), "data_seeds": len(orders), **seed_effects.split_variance(table)}


def compare_with_baseline(result: Result, results: Sequence[Result], baselines: dict[str, str], center: str) -> Result:
    """The result with its baseline and, if both have scores, their comparison. The p values are not corrected."""
    baseline = find_baseline(result, results, baselines)
    if baseline is None or not result.cell.scores or not baseline.cell.scores:
        return replace(result, baseline=baseline)
    comparison = statistics.compare(result.cell.scores, baseline.cell.scores, center)
    return replace(result, baseline=baseline, comparison=comparison)


def find_baseline(result: Result, results: Sequence[Result], baselines: dict[str, str]) -> Result | None:
    """The baseline's result on the same task with the same settings: see results.find_point."""
    task, method = result.cell.task, baselines.get(result.cell.method)
    candidates = [
        other for other in results if other.cell.task == task and other.cell.method == method and other is not result
    ]
    index = find_point(result.cell.point, [other.cell.point for other in candidates])
    return None if index is None else candidates[index]


def correct_for_many(comparisons: Sequence[Numbers]) -> None:
    """Add welch_p_corrected, mann_whitney_p_corrected and levene_p_corrected to each comparison of one family."""
    for test in TESTS:
        corrected = statistics.holm([comparison[test] for comparison in comparisons])
        for comparison, p in zip(comparisons, corrected):
            comparison[f"{test}_corrected"] = p

"""The cells of a study with their statistics, each compared with its baseline."""

from collections.abc import Sequence
from dataclasses import dataclass

from study import statistics
from study.results import Cell, Row

TESTS = ("welch_p", "mann_whitney_p", "levene_p")
LEVEL = 0.05  # a corrected p below it counts as a difference


@dataclass(frozen=True)
class Result:
    """One cell and what its scores say."""

    cell: Cell
    summary: statistics.Numbers  # of statistics.summarize
    baseline: Cell | None = None  # what it is compared with
    baseline_summary: statistics.Numbers | None = None
    comparison: statistics.Numbers | None = None  # of statistics.compare, and welch_p_corrected and so on

    def is_significant(self, test: str = "welch_p") -> bool:
        """Is the test's p below LEVEL after the correction? False for an undefined p."""
        p = self.comparison and self.comparison[f"{test}_corrected"]
        return p is not None and p < LEVEL


def measure_cells(cells: Sequence[Cell], baselines: dict[str, str], center: str = "median") -> list[Result]:
    """The statistics of each cell, in the order of the cells. baselines: method -> the method it is compared with.

    center: of Levene's test, median or mean.

    Holm's correction runs over all comparisons of the report, for each test on its own.
    """
    results = []
    for cell in cells:
        summary, baseline = statistics.summarize(cell.scores), find_baseline(cell, cells, baselines)
        if baseline is None or not cell.scores or not baseline.scores:
            results.append(Result(cell, summary, baseline))
        else:
            comparison = statistics.compare(cell.scores, baseline.scores, center)
            results.append(Result(cell, summary, baseline, statistics.summarize(baseline.scores), comparison))
    correct_for_many([result.comparison for result in results if result.comparison is not None])
    return results


def correct_for_many(comparisons: Sequence[statistics.Numbers]) -> None:
    """Add welch_p_corrected, mann_whitney_p_corrected and levene_p_corrected to each comparison of one family."""
    for test in TESTS:
        corrected = statistics.holm([comparison[test] for comparison in comparisons])
        for comparison, p in zip(comparisons, corrected):
            comparison[f"{test}_corrected"] = p


def find_baseline(cell: Cell, cells: Sequence[Cell], baselines: dict[str, str]) -> Cell | None:
    """The baseline's cell on the same task with an equal point of the grid, or else its only cell on that task."""
    method = baselines.get(cell.method)
    candidates = [other for other in cells if other.task == cell.task and other.method == method and other is not cell]
    equal = [other for other in candidates if other.point == cell.point]
    if equal:
        return equal[0]
    return candidates[0] if len(candidates) == 1 else None


def scored_rows(cell: Cell) -> list[tuple[Row, float]]:
    """The rows that have a score, each with the score of this cell (for a run of several tasks, of one of them)."""
    rows = [row for row in cell.rows if row.score is not None]
    if len(rows) != len(cell.scores):
        raise ValueError(
            f"{cell.method} on {cell.task} has {len(cell.scores)} scores for {len(rows)} runs with a score"
        )
    return list(zip(rows, cell.scores))


def is_whole_run(cell: Cell) -> bool:
    """False for one task of a run of several tasks: the row's losses and train scores are not of this task alone."""
    return all(row.task == cell.task for row in cell.rows)


def point_key(point: dict[str, object]) -> tuple:
    """A point of the grid as a key of a dict: lists become tuples."""
    return tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in point.items())


def varied_settings(cells: Sequence[Cell]) -> list[str]:
    """The settings that have several values in these cells, in order of first appearance. A missing one is a value."""
    names = dict.fromkeys(name for cell in cells for name in cell.point)
    return [name for name in names if len({repr(cell.point.get(name)) for cell in cells}) > 1]

"""What a study has measured: a Row for each finished run, a Cell for runs that differ only in the seed, a Result for
each cell with its statistics, and the facts about the whole study. Nothing here needs scipy or matplotlib.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

Numbers = dict[str, float | None]  # statistics by their names; None where one is undefined

LEVEL = 0.05  # a corrected p below it counts as a difference


@dataclass(frozen=True)
class Row:
    """One finished run."""

    task: str  # the study's name for the task: rte, or sst5+quora+sts for a run of multitask.py
    method: str
    point: dict[str, object]  # the grid's settings in this run: {"lr": 1e-4}; {} without a grid
    seed: int
    init_seed: int
    data_seed: int
    score: float | None  # None if a loss was not finite
    failed: bool
    failure: str  # why it failed, or ""
    train_loss: float | None
    train_score: float | None  # None unless the study evaluates train
    seconds: float | None  # of training
    metrics: dict[str, float]
    history: list[dict]  # metrics.json's, one entry for each epoch; [] if a loss was not finite
    folder: Path
    task_failures: dict[str, str] = field(default_factory=dict)  # of several tasks: the failed ones, and why


@dataclass(frozen=True)
class Cell:
    """The runs of one method on one task at one point of the grid.

    A run of several tasks gives a cell for their average and a cell for each task. The rows of the latter have the
    score of that task.
    """

    task: str  # what was scored: rte, sst5+quora+sts (the average), sst5
    method: str
    point: dict[str, object]
    rows: list[Row] = field(default_factory=list)
    paper: dict[str, float] = field(default_factory=dict)  # the paper's own numbers in points: mean, std, ...
    # runs with predictions, and seed_effects.agreement; None for fewer than two runs and for real values
    agreement: Numbers | None = None

    @property
    def scored_rows(self) -> list[Row]:
        """The rows that have a score."""
        return [row for row in self.rows if row.score is not None]

    @property
    def scores(self) -> list[float]:
        """The scores of these rows, in their order."""
        return [row.score for row in self.scored_rows]

    @property
    def failed(self) -> int:
        """The number of failed runs, those without a score included."""
        return sum(row.failed for row in self.rows)

    @property
    def is_whole_run(self) -> bool:
        """False for one task of a run of several tasks: the row's loss and train score are not of this task alone."""
        return all(row.task == self.task for row in self.rows)


@dataclass(frozen=True)
class Result:
    """One cell and its statistics."""

    cell: Cell
    summary: Numbers  # of statistics.summarize
    gap: Numbers | None = None  # of statistics.describe_gap; None without train scores
    variance: Numbers | None = None  # of seed_effects.split_variance; None without separate seeds
    baseline: "Result | None" = None  # what it is compared with
    comparison: Numbers | None = None  # of statistics.compare, and welch_p_corrected and so on

    def is_significant(self, test: str = "welch_p") -> bool:
        """Is the test's p below LEVEL after the correction? False for an undefined p, and without a comparison."""
        if self.comparison is None:
            return False
        p = self.comparison[f"{test}_corrected"]
        return p is not None and p < LEVEL


@dataclass(frozen=True)
class StudyInfo:
    """What a report says about the study as a whole."""

    name: str
    about: str  # a paragraph of the study file, or ""
    command: str  # that repeats the study
    baselines: dict[str, str]  # method -> the method that it is compared with
    metrics: dict[str, str]  # task -> the metric in place of its score
    levene: str  # the center of Levene's test: median or mean
    paper_note: str  # a sentence if the paper's numbers are for another model, or ""
    runs_planned: int
    runs_finished: int
    runs_with_errors: list[tuple[str, str]]  # the run's name and the reason in one line
    settings: dict[str, object]  # that all runs share
    # (task, method) -> the values of each setting that not all runs share; several values in a grid
    method_settings: dict[tuple[str, str], dict[str, list]]
    machine: dict[str, str]  # versions, device and precision
    seconds: float  # of training, the sum over the runs


def find_point(point: dict[str, object], points: Sequence[dict[str, object]]) -> int | None:
    """Which of a baseline's points of the grid a method's point is compared with: the index, or None.

    It is the equal one, or the only one that agrees in all settings that both points have (a method may have a grid
    over its own hyper-parameters), or else the only one there is.
    """
    if point in points:
        return points.index(point)
    agreeing = [
        index
        for index, other in enumerate(points)
        if all(other[name] == value for name, value in point.items() if name in other)
    ]
    if len(agreeing) == 1:
        return agreeing[0]
    return 0 if len(points) == 1 else None

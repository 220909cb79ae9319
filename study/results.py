"""What a study has measured: one Row for each finished run, and one Cell for the runs that differ only in the seed."""

from dataclasses import dataclass, field
from pathlib import Path


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
    """The runs of one method on one task at one point of the grid, and one score of each of them.

    A run of several tasks gives a cell for their average and a cell for each task.
    """

    task: str  # what was scored: rte, sst5+quora+sts (the average), sst5
    method: str
    point: dict[str, object]
    rows: list[Row] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)  # of the rows that have one, in their order
    paper: dict[str, float] = field(default_factory=dict)  # the paper's own numbers in points: mean, std, ...

    @property
    def failed(self) -> int:
        """The number of failed runs, those without a score included."""
        return sum(row.failed for row in self.rows)

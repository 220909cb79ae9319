"""What the figures of this paper have in common: failed and successful runs side by side."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axis import Axis
from matplotlib.ticker import LogLocator, NullFormatter

from minbert.errors import InputError
from papers.finished_run import FinishedRun
from study.collect import load_row
from study.picture_style import COLORS, FAILED, label
from study.plan import Run
from study.results import Row

KINDS = ("failed", "successful")
KIND_COLORS = {"failed": FAILED, "successful": COLORS[0]}


class Group(NamedTuple):
    """The runs of one recipe that failed, or those that did not."""

    recipe: str  # of recipe()
    kind: str
    runs: list[FinishedRun]

    @property
    def title(self) -> str:
        """rte-devlin: 4 failed runs"""
        return f"{label(self.recipe)}: {len(self.runs)} {self.kind} run{'s' if len(self.runs) > 1 else ''}"


def kind(run: FinishedRun) -> str:
    """failed or successful"""
    return KINDS[0] if run.failed else KINDS[1]


def check_runs(runs: Sequence[FinishedRun]) -> None:
    """Raise InputError for a run that appears twice, has several tasks, or has another task than the first run."""
    if len({run.folder.resolve() for run in runs}) < len(runs):
        raise InputError("a RUN is given twice")
    for run in runs:
        if len(run.tasks) > 1:
            raise InputError(f"{run.folder} has several tasks: this figure needs runs of one task")
        if run.tasks != runs[0].tasks:
            raise InputError(f"{run.folder} is of another task than {runs[0].folder}")


def check_models(runs: Sequence[FinishedRun]) -> None:
    """check_runs, and raise InputError for a run of another model, or whose loss was not finite."""
    check_runs(runs)
    for run in runs:
        if run.settings.model != runs[0].settings.model:
            raise InputError(f"{run.folder} has another model than {runs[0].folder}")
        if run.score is None:
            raise InputError(f"{run.folder}: a loss was not finite, so there is no model to look into")


def recipe(run: FinishedRun) -> str:
    """The name of the folder without the seed, which runs of one cell of a study share: rte-devlin."""
    return run.name.split("-seed")[0]


def group_runs(runs: Sequence[FinishedRun]) -> list[Group]:
    """The groups of the runs, failed ones first, recipes in the order given."""
    groups: dict[tuple[str, str], list[FinishedRun]] = {}
    for run in sorted(runs, key=lambda run: KINDS.index(kind(run))):  # sorted() keeps the order of equal keys
        groups.setdefault((recipe(run), kind(run)), []).append(run)
    return [Group(name, kind_, of_group) for (name, kind_), of_group in groups.items()]


def study_row(run: FinishedRun) -> Row:
    """The run as the pictures of a study need it. Its method is its recipe."""
    named = Run(run.name, "+".join(task.name for task in run.tasks), recipe(run), {}, run.settings)
    return load_row(named, run.folder, metric=None)


def make_logarithmic(axis: Axis) -> None:
    """A logarithmic scale around what is drawn, with plain numbers as labels.

    matplotlib's own labels, 10^-2, need the $ that our style shows as a letter.
    """
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    low, high = axis.get_view_interval()
    axis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 100 * low else (1,)))
    axis.set_major_formatter(lambda value, _: f"{value:g}")
    axis.set_minor_formatter(NullFormatter())

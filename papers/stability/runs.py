"""What the figures of this paper have in common: failed and successful runs side by side."""

from collections.abc import Sequence, Sized
from typing import NamedTuple

from minbert.report.picture_style import COLORS, FAILED, label
from papers.finished_run import FinishedRun, check_runs, check_same_task, group_by_recipe

KINDS = ("failed", "successful")
PANEL = 2.1  # inches: the smallest width of a panel whose title is that of a group
KIND_COLORS = {"failed": FAILED, "successful": COLORS[0]}


class Group(NamedTuple):
    """The runs of one recipe that failed, or those that did not."""

    recipe: str
    kind: str
    runs: list[FinishedRun]

    @property
    def title(self) -> str:
        """rte-devlin: 4 failed runs"""
        return f"{label(self.recipe)}: {len(self.runs)} {self.kind} run{'s' if len(self.runs) > 1 else ''}"


def marker(points: Sized) -> str:
    """The marker of a line: a single point is invisible without one."""
    return "o" if len(points) == 1 else ""


def kind(run: FinishedRun) -> str:
    """failed or successful"""
    return KINDS[0] if run.failed else KINDS[1]


def group_runs(runs: Sequence[FinishedRun]) -> list[Group]:
    """The groups of the runs, failed ones first, recipes in the order given.

    Raises InputError for a run that appears twice or has several tasks, and for runs of different tasks.
    """
    check_runs(runs)
    check_same_task(runs)
    recipes = group_by_recipe(runs)
    groups = [
        Group(recipe, of_kind, [run for run in of_recipe if kind(run) == of_kind])
        for of_kind in KINDS
        for recipe, of_recipe in recipes.items()
    ]
    return [group for group in groups if group.runs]

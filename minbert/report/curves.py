"""Learning curves: numbers over the steps or the epochs of a run, from the rows of its log and its scores."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from minbert.training.step_lines import is_number

Curve = dict[int, float]  # step, or epoch -> value

# What a picture calls each kind of curve, in the order of the panels.
KINDS = {
    "loss": "training loss",
    "dev_score": "dev score",
    "train_score": "train score",
    "penalty": "penalty",
    "lr": "learning rate",
    "gradient_norm": "gradient norm",
}
OF_EPOCHS = ("dev_score", "train_score")


class Quantity(NamedTuple):
    """What a curve shows."""

    kind: str  # of KINDS
    part: str = ""  # the name of a penalty, or of one task of several

    @property
    def title(self) -> str:
        """training loss; training loss of sst5; penalty smart.smoothness"""
        words = KINDS[self.kind]
        if not self.part:
            return words
        return f"{words} {self.part}" if self.kind == "penalty" else f"{words} of {self.part}"

    @property
    def unit(self) -> str:
        """What the curve goes over."""
        return "epoch" if self.kind in OF_EPOCHS else "step"

    @property
    def is_of_one_task(self) -> bool:
        """Whether this is a part of a run of several tasks."""
        return bool(self.part) and self.kind != "penalty"


def run_curves(log: Sequence[dict], history: Sequence[dict], tasks: Sequence[str]) -> dict[Quantity, Curve]:
    """All curves of a run, in the order of the panels. `tasks` are the names of several tasks, or empty for one task.

    What is missing or no finite number gives no point: a log can be damaged.
    """
    curves: dict[Quantity, Curve] = {}
    points = [*log_points(log, tasks), *score_points(history, tasks)]
    for quantity, position, value in points:
        if is_number(position) and is_number(value):
            curves.setdefault(quantity, {})[position] = value
    return {quantity: curves[quantity] for quantity in in_order(curves)}


def in_order(quantities: Iterable[Quantity]) -> list[Quantity]:
    """The quantities in the order of the panels: those of the whole run by kind, then those of each task together."""
    order = list(KINDS)

    def position(quantity: Quantity) -> tuple:
        task = quantity.part if quantity.is_of_one_task else ""
        return task, order.index(quantity.kind), quantity.part

    return sorted(quantities, key=position)


def log_points(log: Sequence[dict], tasks: Sequence[str]) -> Iterable[tuple[Quantity, object, object]]:
    """(quantity, step, value) of the rows of log.jsonl."""
    for row in log:
        step = row.get("step")
        for kind in ("loss", "lr", "gradient_norm"):
            yield Quantity(kind), step, row.get(kind)
        for name, value in fields(row.get("penalty")).items():
            yield Quantity("penalty", name), step, value
        losses = fields(row.get("losses"))
        for task in tasks:
            yield Quantity("loss", task), step, losses.get(task)


def score_points(history: Sequence[dict], tasks: Sequence[str]) -> Iterable[tuple[Quantity, object, object]]:
    """(quantity, epoch, score) of the scores after each epoch."""
    for entry in map(fields, history):
        for split in ("dev", "train"):
            scores = fields(entry.get(split))
            yield Quantity(f"{split}_score"), entry.get("epoch"), scores.get("score")
            of_tasks = fields(scores.get("tasks"))
            for task in tasks:
                yield Quantity(f"{split}_score", task), entry.get("epoch"), fields(of_tasks.get(task)).get("score")


def fields(value: object) -> dict:
    """The fields of a JSON object; none of anything else."""
    return value if isinstance(value, dict) else {}

"""What a run tells of its training: losses, speed, time left; and whether the losses are still finite."""

import math
import time
from typing import NamedTuple

import torch
from torch import Tensor

from minbert.batches import Dataset
from minbert.errors import TrainingError
from minbert.runtime import Runtime

LOG_EVERY = 10  # steps between two lines of the log, and between two waits for the device


class Step(NamedTuple):
    """What the log needs of one optimizer step. Tensors stay on the device until it asks."""

    epoch: int
    dataset: Dataset
    rows: list[int]
    tokens: int
    lr: float
    norm: Tensor  # of the gradient, before clipping
    terms: dict[str, Tensor]


class Meter:
    """Counts steps and the time spent on them: training alone, without loading, evaluation and checkpoints."""

    def __init__(self, run, runtime: Runtime, total: int, tasks: list[str]):
        self.run, self.runtime, self.total = run, runtime, total
        self.steps, self.examples, self.tokens, self.seconds = 0, 0, 0, 0.0
        self.pending: list[Step] = []  # whose losses are still on the device
        self.unlogged: list[list] = []  # [task, losses by name] of the steps since the last line of the log
        self.logged = {"tokens": 0, "seconds": 0.0}  # the counts at that line
        self.batches = dict.fromkeys(tasks, 0)  # steps of each task
        self.epoch = 0
        self.losses: dict[str, list[float]] = {}  # of each task: the losses of the steps of this epoch
        self.lr, self.norm = 0.0, 0.0  # of the last step
        self.skipped = 0  # steps in a row whose gradient was not finite

    def restart_clock(self) -> None:
        """Training begins, or begins again."""
        self.runtime.synchronize()
        self.lap = time.perf_counter()

    def add(self, step: Step) -> None:
        self.steps += 1
        self.pending.append(step)
        if self.steps % LOG_EVERY == 0:
            self.report()

    def fetch(self) -> None:
        """Read the losses of the pending steps and check that they are finite. Here the device is waited for."""
        pending, self.pending = self.pending, []
        if not pending:
            return
        names = sorted({name for step in pending for name in step.terms})
        zero = torch.zeros_like(pending[0].norm)
        table = torch.stack([torch.stack([step.terms.get(n, zero) for n in names]) for step in pending])
        table = self.runtime.sum_over_ranks(table).tolist()  # (steps, names)
        norms = torch.stack([step.norm for step in pending]).tolist()
        own = torch.tensor(sum(step.tokens for step in pending), device=zero.device)
        self.tokens += int(self.runtime.sum_over_ranks(own))
        self.check_finite(pending, table, norms)
        self.examples += sum(len(step.rows) for step in pending)
        self.seconds += time.perf_counter() - self.lap
        self.lap = time.perf_counter()
        if pending[-1].epoch != self.epoch:
            self.epoch, self.losses = pending[-1].epoch, {}
        for step, row in zip(pending, table):
            task, losses = step.dataset.task.name, dict(zip(names, row))
            self.unlogged.append([task, losses])
            self.losses.setdefault(task, []).append(losses["task"])
            self.batches[task] += 1
        self.lr, self.norm = pending[-1].lr, norms[-1]

    def report(self) -> None:
        """Log the means over the steps since the last line."""
        self.fetch()
        rows, self.unlogged = self.unlogged, []
        if not rows:
            return
        names = sorted({name for _, losses in rows for name in losses})
        means = {name: mean([losses.get(name, 0.0) for _, losses in rows]) for name in names}
        tasks = {task: [losses["task"] for other, losses in rows if other == task] for task, _ in rows}
        tokens, seconds = self.tokens - self.logged["tokens"], self.seconds - self.logged["seconds"]
        self.logged = {"tokens": self.tokens, "seconds": self.seconds}
        self.run.log(
            {
                "step": self.steps,
                "steps": self.total,
                "epoch": self.epoch,
                "loss": means.pop("task"),
                "losses": {task: mean(losses) for task, losses in sorted(tasks.items())},
                "penalty": means,
                "lr": self.lr,
                "gradient_norm": self.norm,
                "tokens_per_second": tokens / seconds,
                "seconds_left": self.seconds / self.steps * (self.total - self.steps),
            }
        )

    def check_finite(self, pending: list[Step], table: list[list[float]], norms: list[float]) -> None:
        """In fp16 infinite gradients are a matter of course, and the scaler skips the step; but not ten in a row."""
        for i, (step, losses, norm) in enumerate(zip(pending, table, norms)):
            finite = math.isfinite(sum(losses))
            self.skipped = 0 if math.isfinite(norm) else self.skipped + 1
            allowed = LOG_EVERY - 1 if self.runtime.precision == "fp16" else 0
            if not finite or self.skipped > allowed:
                number = self.steps - len(pending) + i + 1
                what = "gradient" if finite else "loss"
                lines = ", ".join(str(step.dataset.examples[row].line) for row in step.rows)
                raise TrainingError(f"step {number}: the {what} is not finite; {step.dataset.path} lines {lines}")

    def state(self) -> dict:
        """What is left of it when nothing is pending, as plain JSON."""
        return {k: v for k, v in vars(self).items() if k not in ("run", "runtime", "total", "pending", "lap")}

    def restore(self, state: dict) -> None:
        vars(self).update(state)

    def totals(self) -> dict:
        """For metrics.json. train_loss is the task loss of the last epoch, averaged over its steps (those of one task:
        None if it had none); everything else is of the whole run."""
        return {
            "steps": self.steps,
            "train_loss": mean([loss for losses in self.losses.values() for loss in losses]),
            "seconds": self.seconds,
            "examples_per_second": self.examples / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
            "tasks": {
                task: {"steps": steps, "train_loss": mean(self.losses.get(task, []))}
                for task, steps in self.batches.items()
            },
        }


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None

"""TrainingLog: losses, speed, time left. It also finds the first loss that is not finite.

The losses of a step stay on the device until some steps have passed: reading them at once would make the device wait
for the CPU in every step.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor

from minbert.data.dataset import Dataset
from minbert.errors import TrainingError
from minbert.training.runtime import Runtime

MAX_SKIPPED_STEPS = 9  # in a row, in fp16: see check_finite
LOG_EVERY = 10  # steps between two lines of the log, which are also the steps between two waits for the device


class StepRecord(NamedTuple):
    """What the log keeps of one optimizer step. The tensors are still on the device."""

    step: int  # from 1
    epoch: int
    dataset: Dataset
    rows: list[int]
    tokens: int  # real tokens on this rank
    lr: float
    gradient_norm: Tensor  # before clipping
    losses: dict[str, Tensor]  # this rank's share of the mean losses


@dataclass
class LogState:
    """The log's own counts, as plain JSON. A checkpoint holds them, so that a resumed run logs the same lines."""

    examples: int = 0
    tokens: int = 0
    seconds: float = 0.0  # of training alone, without loading, evaluation and checkpoints
    logged_tokens: int = 0  # tokens and seconds up to the last line of the log
    logged_seconds: float = 0.0
    unlogged: list[tuple[str, dict[str, float]]] = field(default_factory=list)  # (task, losses) of steps since then
    epoch: int = 0
    epoch_losses: dict[str, list[float]] = field(default_factory=dict)  # task -> losses of the steps of this epoch
    steps_of_task: dict[str, int] = field(default_factory=dict)
    lr: float = 0.0
    gradient_norm: float = 0.0
    skipped: int = 0  # steps in a row whose gradient was not finite


class TrainingLog:
    """Collects the records of steps and writes one row of means for every LOG_EVERY steps."""

    def __init__(self, runtime: Runtime, total_steps: int, tasks: list[str], write_row: Callable[[dict], object]):
        self.runtime, self.total_steps, self.write_row = runtime, total_steps, write_row
        self.state = LogState(steps_of_task=dict.fromkeys(tasks, 0))
        self.pending: list[StepRecord] = []  # records whose losses are still on the device
        self.clock = time.perf_counter()

    def start_clock(self) -> None:
        """Training begins, or goes on after an evaluation or a checkpoint, whose time does not count."""
        self.runtime.synchronize()
        self.clock = time.perf_counter()

    def add(self, record: StepRecord) -> None:
        """Keep a record. After every LOG_EVERY steps, write a row."""
        self.pending.append(record)
        if record.step % LOG_EVERY == 0:
            self.write(record.step)

    def fetch(self) -> None:
        """Read the losses of the pending records from the device, and count them.

        With several processes all of them have to call this. Raises TrainingError for a loss that is not finite.
        """
        pending, self.pending = self.pending, []
        if not pending:
            return
        names = sorted({name for record in pending for name in record.losses})
        zero = torch.zeros_like(pending[0].gradient_norm)
        # One table of (steps, names), so that the device is read, and the ranks are summed, only once. A step of
        # another task may lack a term: it counts as 0 there. All ranks take the same steps, so their tables have the
        # same shape; a rank with another shape would break the sum.
        table = torch.stack([torch.stack([record.losses.get(name, zero) for name in names]) for record in pending])
        rows = [dict(zip(names, row)) for row in self.runtime.sum_over_ranks(table).tolist()]
        norms = torch.stack([record.gradient_norm for record in pending]).tolist()
        own_tokens = torch.tensor(sum(record.tokens for record in pending), device=zero.device)
        tokens = int(self.runtime.sum_over_ranks(own_tokens))
        # Check all of them before any is counted: the counts of a failed run stay those of its last good steps.
        for record, losses, norm in zip(pending, rows, norms):
            self.check_finite(record, losses, norm)
        # Reading the table has waited for the device, so the clock now includes all the work of these steps.
        self.state.tokens += tokens
        self.state.seconds += time.perf_counter() - self.clock
        self.clock = time.perf_counter()
        for record, losses, norm in zip(pending, rows, norms):
            self.count(record, losses, norm)

    def count(self, record: StepRecord, losses: dict[str, float], norm: float) -> None:
        state, task = self.state, record.dataset.task.name
        if record.epoch != state.epoch:
            state.epoch, state.epoch_losses = record.epoch, {}
        state.examples += len(record.rows)
        state.unlogged.append((task, losses))
        state.epoch_losses.setdefault(task, []).append(losses["task"])
        state.steps_of_task[task] += 1
        state.lr, state.gradient_norm = record.lr, norm

    def check_finite(self, record: StepRecord, losses: dict[str, float], norm: float) -> None:
        """Raise TrainingError that names the step and its examples. Counts the skipped steps.

        In fp16 an infinite gradient is normal now and then: the scaler skips the step and lowers its scale. Ten such
        steps in a row are not normal.
        """
        loss_is_finite = math.isfinite(sum(losses.values()))
        self.state.skipped = 0 if math.isfinite(norm) else self.state.skipped + 1
        allowed = MAX_SKIPPED_STEPS if self.runtime.precision == "fp16" else 0
        if not loss_is_finite or self.state.skipped > allowed:
            quantity = "gradient" if loss_is_finite else "loss"
            lines = ", ".join(str(record.dataset.examples[row].line) for row in record.rows)
            raise TrainingError(
                f"step {record.step}: the {quantity} is not finite; {record.dataset.path} lines {lines}"
            )

    def write(self, step: int) -> None:
        """Write a row with the means over the steps since the last row, if there were any."""
        self.fetch()
        state, unlogged = self.state, self.state.unlogged
        if not unlogged:
            return
        state.unlogged = []
        names = sorted({name for _, losses in unlogged for name in losses})
        means = {name: mean([losses.get(name, 0.0) for _, losses in unlogged]) for name in names}
        tasks = sorted({task for task, _ in unlogged})
        tokens, seconds = state.tokens - state.logged_tokens, state.seconds - state.logged_seconds
        state.logged_tokens, state.logged_seconds = state.tokens, state.seconds
        self.write_row(
            {
                "step": step,
                "steps": self.total_steps,
                "epoch": state.epoch,
                "loss": means.pop("task"),
                "losses": {name: mean([losses["task"] for task, losses in unlogged if task == name]) for name in tasks},
                "penalty": means,
                "lr": state.lr,
                "gradient_norm": state.gradient_norm,
                "tokens_per_second": tokens / seconds,
                "seconds_left": state.seconds / step * (self.total_steps - step),
            }
        )

    def totals(self) -> dict:
        """The counts of the whole run, for metrics.json.

        train_loss is the mean task loss over the steps of the last epoch; for a task without a step in it, None.
        """
        state = self.state
        tasks = {
            task: {"steps": steps, "train_loss": mean(state.epoch_losses.get(task, []))}
            for task, steps in state.steps_of_task.items()
        }
        return {
            "steps": sum(state.steps_of_task.values()),
            "train_loss": mean([loss for losses in state.epoch_losses.values() for loss in losses]),
            "seconds": state.seconds,
            "examples_per_second": state.examples / state.seconds,
            "tokens_per_second": state.tokens / state.seconds,
            "tasks": tasks,
        }


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None

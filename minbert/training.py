"""Objective: what is minimised.  fit: THE loop, the only one.  evaluate: the scores of a split."""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from minbert import metrics
from minbert.batches import Batch, Dataset
from minbert.checkpoint import Checkpoint
from minbert.errors import TrainingError
from minbert.optimizer import AdamW, parameter_groups
from minbert.runtime import Runtime, derive_seed
from minbert.schedules import SCHEDULES

NOWHERE = Checkpoint(None)
LOG_EVERY = 10  # steps between two lines of the log, and between two waits for the device


class Objective(nn.Module):
    """task loss(clean pass) + the method's penalties. DDP wraps it, a checkpoint saves it."""

    def __init__(self, model: nn.Module, method: nn.Module):
        super().__init__()
        self.model, self.method = model, method

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """-> (the scalar to minimise, {"task": the task loss, and each penalty by name}), means over the batch."""
        clean = self.model(batch)
        loss = batch.task.loss(clean.logits, batch.labels)
        terms = self.method.penalty(self.model, batch, clean)
        logged = {"task": loss, **terms}
        return sum(terms.values(), loss), {name: term.detach() for name, term in logged.items()}


def fit(objective, plan: Callable, score: Callable, steps: int, settings, runtime: Runtime, run, checkpoint=NOWHERE):
    """Train `objective.model` for that many optimizer steps.

    plan(epoch) -> [(dataset, rows), ...], one pair for each step of the epoch; score(epoch) -> what to remember
    of it. Epochs count from 1. A state that `checkpoint` holds is where training goes on; after each epoch it
    gets a new one.
    Returns (totals of Meter, one dict for each epoch). Raises TrainingError naming the first step whose loss
    or gradient is not finite.
    """
    model, method = objective.model, objective.method
    wrapped = runtime.wrap(objective, some_unused=len(model.tasks) > 1)
    optimizer = AdamW(
        parameter_groups(model, settings.weight_decay, method.undecayed(model)),
        lr=settings.lr,
        correct_bias=settings.bias_correction,
    )
    scaler, factor = runtime.scaler(), SCHEDULES[settings.schedule]
    optimizers = [optimizer, *method.optimizers()]
    meter, epoch, history = Meter(run, runtime, steps), 0, []
    kept = checkpoint.load(objective, optimizers)
    if kept:
        epoch, history = kept["epoch"], kept["history"]
        meter.restore(kept["meter"])
    else:
        method.warmup(model, lambda: (data.collate(rows).to(runtime.device) for data, rows in plan(0)))
    while meter.steps < steps:
        epoch += 1
        objective.train()
        meter.start()
        for dataset, rows in plan(epoch)[: steps - meter.steps]:
            lr = settings.lr * factor(meter.steps, steps, settings.warmup)
            for group in optimizer.param_groups:
                group["lr"] = lr
            terms, tokens = backward(wrapped, dataset, rows, settings, runtime, scaler, meter.steps)
            scaler.unscale_(optimizer)
            norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip or float("inf"))
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            meter.add(Step(epoch, dataset, rows, tokens, lr, norm, terms))
            method.after_step(model, progress=meter.steps / steps)
        meter.stop()
        history.append({"epoch": epoch, **score(epoch)})
        if runtime.is_main:
            checkpoint.save(objective, optimizers, {"epoch": epoch, "history": history, "meter": meter.state()})
    return meter.totals() | {"epochs": epoch}, history


def backward(wrapped: nn.Module, dataset: Dataset, rows: list[int], settings, runtime: Runtime, scaler, step: int):
    """Gradient of the mean loss over `rows`: summed over micro-batches, averaged over ranks.

    The rows are dealt out to all micro-batches of all ranks, and each loss counts by its number of rows. The
    generator is set anew before each, so that a resumed run needs none saved.
    Returns this rank's share of the mean losses by name, and its number of real tokens.
    """
    terms, tokens, players = {}, 0, runtime.world * settings.accumulate
    for micro in range(settings.accumulate):
        piece, weight = deal(rows, runtime.rank * settings.accumulate + micro, players)
        batch = dataset.collate(piece)
        torch.manual_seed(derive_seed(settings.seed, step, micro, runtime.rank))
        with runtime.unsynchronized(wrapped, last=micro == settings.accumulate - 1):
            with runtime.autocast():
                loss, parts = wrapped(batch.to(runtime.device))
            scaler.scale(loss * (weight * runtime.world)).backward()  # DDP divides by the number of ranks
        for name, part in parts.items():
            terms[name] = terms.get(name, 0.0) + part * weight
        tokens += int(batch.attention_mask.sum()) if weight else 0
    return terms, tokens


def deal(rows: list[int], number: int, players: int) -> tuple[list[int], float]:
    """Every `players`-th row and their share of all. Who gets none borrows one, at weight 0: ranks stay in step."""
    own = rows[number::players]
    return (own, len(own) / len(rows)) if own else (rows[:1], 0.0)


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
    """Counts steps and the time spent on them: training alone, without loading and evaluation."""

    def __init__(self, run, runtime: Runtime, total: int):
        self.run, self.runtime, self.total = run, runtime, total
        self.steps, self.examples, self.tokens, self.seconds = 0, 0, 0, 0.0
        self.pending: list[Step] = []
        self.losses: list[float] = []  # the task loss of each step of this epoch

    def start(self) -> None:
        """An epoch begins."""
        self.losses = []
        self.runtime.synchronize()
        self.lap = time.perf_counter()

    def stop(self) -> None:
        """An epoch ends."""
        if self.pending:
            self.report()

    def add(self, step: Step) -> None:
        self.steps += 1
        self.pending.append(step)
        if len(self.pending) == LOG_EVERY:
            self.report()

    def report(self) -> None:
        """Fetch the losses of the pending steps, check that they are finite, and log their means."""
        pending, self.pending = self.pending, []
        names = sorted({name for step in pending for name in step.terms})
        zero = torch.zeros_like(pending[0].norm)
        table = torch.stack([torch.stack([step.terms.get(n, zero) for n in names]) for step in pending])
        table = self.runtime.sum_over_ranks(table).tolist()  # (steps, names); here the device is waited for
        norms = torch.stack([step.norm for step in pending]).tolist()
        own = torch.tensor(sum(step.tokens for step in pending), device=zero.device)
        tokens = int(self.runtime.sum_over_ranks(own))
        self.check_finite(pending, table, norms)
        seconds, self.lap = time.perf_counter() - self.lap, time.perf_counter()
        self.seconds += seconds
        self.tokens += tokens
        self.examples += sum(len(step.rows) for step in pending)
        means = {name: sum(column) / len(column) for name, column in zip(names, zip(*table))}
        self.losses += [row[names.index("task")] for row in table]
        self.run.log(
            {
                "step": self.steps,
                "steps": self.total,
                "epoch": pending[-1].epoch,
                "loss": means.pop("task"),
                "penalty": means,
                "lr": pending[-1].lr,
                "gradient_norm": norms[-1],
                "tokens_per_second": tokens / seconds,
                "seconds_left": self.seconds / self.steps * (self.total - self.steps),
            }
        )

    def check_finite(self, pending: list[Step], table: list[list[float]], norms: list[float]) -> None:
        """In fp16 infinite gradients are a matter of course, and the scaler skips the step; but not all steps."""
        skipping = self.runtime.precision == "fp16" and any(map(math.isfinite, norms))
        for i, step in enumerate(pending):
            loss, gradient = sum(table[i]), 0.0 if skipping else norms[i]
            if not math.isfinite(loss + gradient):
                number = self.steps - len(pending) + i + 1
                what = "gradient" if math.isfinite(loss) else "loss"
                lines = ", ".join(str(step.dataset.examples[row].line) for row in step.rows)
                raise TrainingError(f"step {number}: the {what} is not finite; {step.dataset.path} lines {lines}")

    def state(self) -> dict:
        return {name: getattr(self, name) for name in ("steps", "examples", "tokens", "seconds", "losses")}

    def restore(self, state: dict) -> None:
        vars(self).update(state)

    def totals(self) -> dict:
        """For metrics.json. train_loss is the task loss of the last epoch, averaged over its steps."""
        return {
            "steps": self.steps,
            "train_loss": sum(self.losses) / len(self.losses),
            "seconds": self.seconds,
            "examples_per_second": self.examples / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
        }


@torch.no_grad()
def predict(model: nn.Module, dataset: Dataset, batch_size: int, runtime: Runtime) -> np.ndarray:
    """Logits [N,C] in the file's order, in eval mode. The ranks share the work and each example counts once."""
    model.eval()
    logits = torch.zeros(len(dataset), dataset.task.outputs, device=runtime.device)
    for rows in dataset.by_length(batch_size)[runtime.rank :: runtime.world]:
        batch = dataset.collate(rows).to(runtime.device)
        with runtime.autocast():
            logits[batch.index] = model(batch).logits.float()
    return runtime.sum_over_ranks(logits).cpu().numpy()


def evaluate(model: nn.Module, parts: dict[str, Dataset], batch_size: int, runtime: Runtime) -> dict:
    """The fields of metrics.json that a split decides. It may have several files (MNLI): their scores are
    averaged, and the metrics of the second are named accuracy-mismatched, after its split."""
    results = {}
    for split, dataset in parts.items():
        logits = predict(model, dataset, batch_size, runtime)
        results[split] = metrics.judge(dataset.task, logits, dataset.labels.numpy())
    first = next(iter(parts))
    scores = [result["score"] for result in results.values()]
    why = "; ".join(f"{split}: {result['failure']}" for split, result in results.items() if result["failure"])

    def all_values(kind: str) -> dict[str, float]:
        return {k + split.removeprefix(first): v for split, result in results.items() for k, v in result[kind].items()}

    return {
        "score": sum(scores) / len(scores),
        "metrics": all_values("metrics"),
        "majority": all_values("majority"),
        "failed": bool(why),
        "failure": why,
    }

"""Objective: what is minimised.  fit: THE loop, the only one.  evaluate: the scores of a split."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import numpy as np
import torch
from torch import Tensor, nn

from minbert import metrics
from minbert.batches import Batch, Dataset
from minbert.best import Best
from minbert.checkpoint import Checkpoint
from minbert.errors import InputError, Interrupted
from minbert.meter import LOG_EVERY, Meter, Step
from minbert.optimizer import AdamW, parameter_groups
from minbert.runtime import Runtime, derive_seed
from minbert.schedules import SCHEDULES

NOWHERE = Checkpoint(None)


class Objective(nn.Module):
    """task loss(clean pass), times the task's weight, + the method's penalties. DDP wraps it, a checkpoint saves it."""

    def __init__(self, model: nn.Module, method: nn.Module, weights: dict[str, float] | None = None):
        super().__init__()
        self.model, self.method = model, method
        self.weights = weights or {}  # by the task's name, 1 for the others

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """-> (the scalar to minimise, {"task": the task loss, and each penalty by name}), means over the batch.

        What is logged is the loss itself, without the task's weight.
        """
        clean = self.model(batch)
        loss = batch.task.loss(clean.logits, batch.labels)
        terms = self.method.penalty(self.model, batch, clean)
        logged = {"task": loss, **terms}
        weighted = self.weights.get(batch.task.name, 1.0) * loss
        return sum(terms.values(), weighted), {name: term.detach() for name, term in logged.items()}


@dataclass
class Place:
    """Where in the run training is, beside the number of steps."""

    epoch: int = 1  # under way
    done: int = 0  # steps of that epoch
    history: list[dict] = field(default_factory=list)  # of the epochs before


def fit(objective, plan: Callable, score: Callable, steps: int, settings, runtime: Runtime, run, checkpoint=NOWHERE):
    """Train `objective.model` for that many optimizer steps.

    plan(epoch) -> [(dataset, rows), ...], one pair for each step of the epoch; score(epoch) -> what to remember
    of it. Epochs count from 1. A state that `checkpoint` holds is where training goes on; it gets a new one after
    each epoch, whenever one is due, and when a signal ends the run. The model ends up with the weights of the last
    epoch, or of the one whose dev score is the best: settings.keep says which.
    Returns (totals of Meter, one dict for each epoch). Raises TrainingError naming the first step whose loss
    or gradient is not finite, and Interrupted.
    """
    model, method = objective.model, objective.method
    wrapped = runtime.wrap(objective, some_unused=len(model.tasks) > 1)
    optimizer = AdamW(
        parameter_groups(model, settings.weight_decay, method.undecayed(model)),
        lr=settings.lr,
        correct_bias=settings.bias_correction,
    )
    scaler, factor = runtime.scaler(), SCHEDULES[settings.schedule]
    best = Best(model, active=settings.keep == "best")
    optimizers = [optimizer, *method.optimizers(), best]
    meter, place = Meter(run, runtime, steps, [task.name for task in model.tasks]), Place()

    def step(dataset: Dataset, rows: list[int]) -> None:
        lr = settings.lr * factor(meter.steps, steps, settings.warmup)
        for group in optimizer.param_groups:
            group["lr"] = lr
        terms, tokens = backward(wrapped, dataset, rows, settings, runtime, scaler, meter.steps)
        scaler.unscale_(optimizer)
        norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip or float("inf"))
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        meter.add(Step(place.epoch, dataset, rows, tokens, lr, norm, terms))
        method.after_step(model, progress=meter.steps / steps)

    def keep() -> None:
        meter.fetch()  # first: a state after a loss that is not finite is never kept
        progress = {"total": steps, "place": asdict(place), "meter": meter.state(), "scaler": scaler.state_dict()}
        checkpoint.save(meter.steps, objective, optimizers, progress)
        meter.restart_clock()

    kept = checkpoint.load(objective, optimizers)
    if kept:
        if kept["total"] != steps:
            raise InputError(f"the run was to take {kept['total']} steps, and now {steps}: its data have changed")
        place = Place(**kept["place"])
        meter.restore(kept["meter"])
        scaler.load_state_dict(kept["scaler"])
    else:
        torch.manual_seed(derive_seed(settings.seed, "warmup"))  # on all ranks alike
        with runtime.autocast():
            method.warmup(model, lambda: whole_epoch(plan(1), settings, runtime))
    with runtime.signals.patience():
        try:
            while meter.steps < steps or place.done:
                objective.train()
                meter.restart_clock()
                for dataset, rows in plan(place.epoch)[place.done :][: steps - meter.steps]:
                    step(dataset, rows)
                    place.done += 1
                    pause(meter.steps, runtime, checkpoint, keep)
                meter.report()
                result = score(place.epoch)
                best.offer(result)
                place = Place(place.epoch + 1, 0, [*place.history, {"epoch": place.epoch, **result}])
                keep()
        except Interrupted:
            keep()
            raise
    best.restore()
    return meter.totals() | {"epochs": place.epoch - 1}, place.history


def pause(step: int, runtime: Runtime, checkpoint: Checkpoint, keep: Callable) -> None:
    """Between two steps: keep the state if that is due, and end if a signal came. Several processes have to agree
    on both, and do so only where they wait for each other anyway."""
    if runtime.world > 1 and step % LOG_EVERY:
        return
    signal = runtime.largest_of_ranks(runtime.signals.received)
    if signal:
        raise Interrupted(signal)  # which keeps the state, too
    if runtime.largest_of_ranks(checkpoint.is_due(step)):
        keep()


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


def whole_epoch(epoch: list[tuple[Dataset, list[int]]], settings, runtime: Runtime):
    """All batches of all ranks, in the pieces in which `backward` deals them out."""
    players = runtime.world * settings.accumulate
    for dataset, rows in epoch:
        for number in range(min(players, len(rows))):
            yield dataset.collate(deal(rows, number, players)[0]).to(runtime.device)


def deal(rows: list[int], number: int, players: int) -> tuple[list[int], float]:
    """Every `players`-th row and their share of all. Who gets none borrows one, at weight 0: ranks stay in step."""
    own = rows[number::players]
    return (own, len(own) / len(rows)) if own else (rows[:1], 0.0)


@torch.no_grad()
def predict(model: nn.Module, dataset: Dataset, batch_size: int, runtime: Runtime) -> np.ndarray:
    """Logits [N,C] in the file's order, in eval mode. The ranks share the work and each example counts once."""
    model.eval()
    logits = torch.zeros(len(dataset), dataset.task.outputs, device=runtime.device)
    for rows in dataset.by_length(batch_size)[runtime.rank :: runtime.world]:
        batch = dataset.collate(rows).to(runtime.device)
        with runtime.autocast():
            logits[batch.index] = model(batch).logits.float()
        if runtime.world == 1:  # several processes stop at the next step, together
            runtime.signals.check()
    return runtime.sum_over_ranks(logits).cpu().numpy()


def evaluate(parts: dict[str, Dataset], logits: dict[str, np.ndarray]) -> dict:
    """The fields of metrics.json that a split decides, from its logits. It may have several files (MNLI): their scores
    are averaged, and the metrics of the second are named accuracy-mismatched, after its split."""
    results = {
        split: metrics.judge(dataset.task, logits[split], dataset.labels.numpy()) for split, dataset in parts.items()
    }
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

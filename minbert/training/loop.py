"""Objective: the number that training minimises.  fit: THE training loop, the only one.

The numbered steps of `fit` are the algorithm of fine-tuning.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.data.sampling import BatchSampler, TaskBatchSampler
from minbert.errors import Interrupted
from minbert.optimizer import AdamW, parameter_groups
from minbert.random_state import derive_seed
from minbert.schedules import SCHEDULES
from minbert.task import Batch
from minbert.training.checkpoint import Checkpoints
from minbert.training.gradients import GradientRecorder
from minbert.training.log import LOG_EVERY, StepRecord, TrainingLog
from minbert.training.runtime import Runtime
from minbert.training.settings import CommonSettings
from minbert.training.state import BestWeights, LoopState, TrainingState


class Objective(nn.Module):
    """task weight x loss + the sum of the method's penalties. DDP wraps this module, and a checkpoint saves it."""

    def __init__(self, model: SentenceModel, method: nn.Module, loss_weights: dict[str, float] | None = None):
        super().__init__()
        self.model = model
        self.method = method  # a regularizers.base.Method; minbert does not import it
        self.loss_weights = loss_weights or {}  # by the task's name; 1 for a task that is not there

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """-> (the scalar to minimise, {"task": the loss, and each penalty by name}), means over the batch.

        The entry "task" is the loss before it is multiplied by the weight of the task.
        """
        torch.manual_seed(batch.seed)  # dropout follows from the batch alone, so no generator state has to be saved
        clean = self.model(batch)
        loss = self.method.loss(self.model, batch, clean)
        penalties = self.method.penalty(self.model, batch, clean)
        total = self.loss_weights.get(batch.task.name, 1.0) * loss
        for penalty in penalties.values():
            total = total + penalty
        return total, {"task": loss, **penalties}


def discard(_: object) -> None:
    """Write no log, and show no progress."""


def fit(
    objective: Objective,
    sampler: BatchSampler | TaskBatchSampler,
    evaluate: Callable[[int], dict],
    settings: CommonSettings,
    runtime: Runtime,
    write_row: Callable[[dict], object] = discard,
    checkpoints: Checkpoints | None = None,
    write_gradients: Callable[[dict], object] = discard,
    show_step: Callable[[int], object] = discard,
) -> tuple[dict, list[dict]]:
    """Train `objective.model` for `sampler.steps` optimizer steps.

    evaluate(epoch) -> the scores of an epoch, which the history keeps. write_row(row) receives the lines of the log,
    write_gradients(row) the norms that --record asks for, and show_step(step) the number of steps that are done.
    If `checkpoints` holds a state, training goes on from it. A new state is saved after each epoch, whenever one is
    due, and when a signal ends the run. The model ends with the weights of the last epoch, or with --keep best those of
    the epoch with the best dev score.

    Returns (the totals of the log, one dict for each epoch). Raises TrainingError for a loss or gradient that is not
    finite, and Interrupted.
    """
    settings = settings.resolve()  # the usual values, where a library user gave none
    model, method = objective.model, objective.method
    # DDP goes around the objective before the optimizer is made: it broadcasts rank 0's parameters. The optimizer works
    # on the plain parameters, whose gradients DDP averages while they are computed.
    wrapped = runtime.wrap(objective, some_unused=len(model.tasks) > 1)
    # The groups hold what requires a gradient. That is final only now: methods freeze and insert when they attach.
    groups = parameter_groups(model, settings.weight_decay, method.undecayed(model))
    optimizer = AdamW(
        groups,
        lr=settings.lr,
        betas=settings.adam_betas,
        eps=settings.adam_eps,
        correct_bias=settings.bias_correction,
    )
    schedule, scaler = SCHEDULES[settings.schedule], runtime.scaler()
    log = TrainingLog(runtime, sampler.steps, [task.name for task in model.tasks], write_row)
    record_every = settings.record_every if settings.record else None
    recorder = GradientRecorder(model, record_every, write_gradients, objective.loss_weights)
    best = BestWeights()
    state = TrainingState(
        objective, [optimizer, *method.optimizers()], scaler, best, log, LoopState(total_steps=sampler.steps)
    )

    # Some methods have a first stage: MINE fits its networks to the pretrained model. A resumed run skips it, because
    # the checkpoint holds what it fitted.
    if checkpoints is None or not checkpoints.load_last(state):
        batches = partial(examples_of_task, sampler=sampler, settings=settings, runtime=runtime)
        with runtime.autocast():  # in the precision of training, or the stage would measure another model
            # "warmup" is only a label inside the seed. A new label would change the results of these methods.
            method.prepare_with_seed(model, batches, derive_seed(settings.seed, "warmup"))
    loop = state.loop  # only now: load_last puts another one into the state

    with save_if_interrupted(state, checkpoints, runtime):
        while loop.is_running():
            objective.train()  # the evaluation of the last epoch left it in eval mode
            log.start_clock()
            for dataset, rows in remaining_steps(sampler, loop):
                # 1. The learning rate of this step. The method's own optimizers keep theirs.
                lr = settings.lr * schedule(loop.step, loop.total_steps, settings.warmup)
                for group in optimizer.param_groups:
                    group["lr"] = lr

                # 2. Forward and backward: the gradient of the mean loss over all rows, on every rank the same.
                recorder.start_step(loop.step + 1)
                losses, tokens = backward(wrapped, dataset, rows, settings, runtime, scaler, loop.step, recorder)

                # 3. Clip and step. In fp16 the gradients are still scaled: they are unscaled before the norm is taken,
                # and the step is skipped if one of them is not finite. Without clipping the norm is still logged.
                scaler.unscale_(optimizer)
                recorder.end_step()
                norm = nn.utils.clip_grad_norm_(model.parameters(), settings.clip or float("inf"))
                scaler.step(optimizer)
                scaler.update()
                # Gradients become None, not zero: the next batch may be of another task, and AdamW leaves parameters
                # without a gradient alone. A gradient of zero would still decay them.
                optimizer.zero_grad()
                loop.step += 1
                loop.step_in_epoch += 1

                # 4. What the method does after a step: SMART moves its teacher.
                method.after_step(model, progress=loop.step / loop.total_steps)

                # 5. Log. The losses stay on the device until the log needs them.
                log.add(StepRecord(loop.step, loop.epoch, dataset, rows, tokens, lr, norm, losses))
                show_step(loop.step)

                # 6. Save, if a checkpoint is due. Stop, if a signal came.
                save_or_stop_if_due(state, checkpoints, runtime)

            # 7. The epoch has ended: score it, and save. The position moves on only after the scores are there, so a
            # run that is stopped while it evaluates starts again with the evaluation.
            log.write(loop.step)
            scores = evaluate(loop.epoch)
            if settings.keep == "best":
                best.update(model, scores["dev"]["score"])
            loop.end_epoch(scores)
            save(state, checkpoints)
    best.load_into(model)
    return log.totals() | {"epochs": len(loop.history)}, loop.history


def remaining_steps(sampler: BatchSampler | TaskBatchSampler, loop: LoopState) -> list[tuple[Dataset, list[int]]]:
    """The steps of the epoch under way that are not done yet. --max-steps can end the run inside an epoch."""
    steps = sampler.epoch(loop.epoch)[loop.step_in_epoch :]
    return steps[: loop.total_steps - loop.step]


def backward(
    wrapped: nn.Module,
    dataset: Dataset,
    rows: list[int],
    settings: CommonSettings,
    runtime: Runtime,
    scaler: torch.amp.GradScaler,
    step: int,
    recorder: GradientRecorder | None = None,
) -> tuple[dict[str, Tensor], int]:
    """Compute the gradient of the mean loss over `rows`: summed over micro-batches, averaged over ranks.

    The rows are divided among all micro-batches of all ranks, and each micro-batch counts by its number of rows. So the
    result does not depend on the number of processes, except for rounding and random numbers: each rank draws its
    own dropout masks and noise. (A penalty that compares the examples of a batch, such as MINE's, sees one micro-batch
    at a time.)

    Returns this rank's share of the mean losses by name, and its number of real tokens.
    """
    losses: dict[str, Tensor] = {}
    tokens, shards = 0, runtime.world_size * settings.accumulate
    for micro in range(settings.accumulate):
        # The ranks are the outer division of the rows: rank 0 gets shards 0 .. accumulate-1.
        own_rows, weight = shard_rows(rows, runtime.rank * settings.accumulate + micro, shards)
        # Each micro-batch has its own seed; otherwise all of them would draw the same dropout masks. While the CPU
        # collates (half a millisecond), a GPU still computes the previous step. A step waits for the GPU in four
        # cases only: in fp16 (did a gradient overflow?), with MINE on several ranks, with R4F (its SVD), and where
        # --record reads a gradient.
        batch = dataset.collate(own_rows, seed=derive_seed(settings.seed, step, micro, runtime.rank))
        is_last = micro == settings.accumulate - 1
        with runtime.average_gradients_if(is_last, wrapped):
            with runtime.autocast():
                loss, terms = wrapped(batch.to(runtime.device))
            if recorder is not None:
                recorder.add_terms(terms, weight, dataset.task.name)
            # DDP divides by the number of ranks, but `weight` is already a share of all rows.
            scaler.scale(loss * (weight * runtime.world_size)).backward()
        # The losses stay on the device: reading one here would make the CPU wait for the device in every step.
        for name, term in terms.items():
            losses[name] = losses.get(name, 0.0) + term.detach() * weight
        if weight:  # a dummy row does not count
            tokens += int(batch.attention_mask.sum())
    return losses, tokens


def shard_rows(rows: list[int], shard: int, shards: int) -> tuple[list[int], float]:
    """Every `shards`-th row, and the share of all rows that they are.

    A shard without rows gets one dummy row with weight 0, so that all ranks run the same collectives.
    """
    own_rows = rows[shard::shards]
    return (own_rows, len(own_rows) / len(rows)) if own_rows else (rows[:1], 0.0)


def examples_of_task(
    task: str, sampler: BatchSampler | TaskBatchSampler, settings: CommonSettings, runtime: Runtime
) -> Iterator[Batch]:
    """The training examples of one task, each once, in micro-batches as large as those of `backward`.

    Every rank gets the micro-batches of all ranks, so that all of them prepare the same thing. The sampling of tasks
    has no influence.
    """
    shards = runtime.world_size * settings.accumulate
    for dataset in sampler.datasets:
        if dataset.task.name == task:
            for rows in dataset.shuffled(settings.batch_size, settings.data_seed, epoch=1):
                for shard in range(min(shards, len(rows))):
                    yield dataset.collate(shard_rows(rows, shard, shards)[0]).to(runtime.device)


def save(state: TrainingState, checkpoints: Checkpoints | None) -> None:
    """Write a checkpoint. The losses are fetched first: a state after a loss that is not finite is never saved."""
    state.log.fetch()
    if checkpoints is not None:
        checkpoints.save(state)
    state.log.start_clock()


def save_or_stop_if_due(state: TrainingState, checkpoints: Checkpoints | None, runtime: Runtime) -> None:
    """Between two steps: write a checkpoint if one is due. Raise Interrupted if a signal came.

    Several processes must decide this together. They do so only where they wait for each other anyway, at the steps
    that write the log.
    """
    step = state.loop.step
    if runtime.is_distributed and step % LOG_EVERY:
        return
    # A cluster may signal only one of the processes. If that one stopped alone, the others would wait for it for ever.
    signal = runtime.max_over_ranks(runtime.signals.received)
    if signal:
        raise Interrupted(signal)
    # The clocks of the ranks differ, so whether ten minutes have passed is decided together as well.
    if runtime.max_over_ranks(checkpoints is not None and checkpoints.is_due(step)):
        save(state, checkpoints)


@contextmanager
def save_if_interrupted(state: TrainingState, checkpoints: Checkpoints | None, runtime: Runtime) -> Iterator[None]:
    """In the body, signals wait for the end of a step or of an evaluation batch. Then the state is saved."""
    with runtime.signals.deferred():
        try:
            yield
        except Interrupted:
            save(state, checkpoints)
            raise

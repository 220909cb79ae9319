"""Run by test_runtime.py as two gloo processes: with every option, both must train as one process would.

    python two_processes.py FOLDER single|multitask|resume

`multitask` has three tasks, with pairs of both kinds. Numbers of examples are odd, so that ranks get different ones.
"""

import gc
import itertools
import os
import signal
import sys
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from minbert.data.dataset import Dataset
from minbert.data.sampling import BatchSampler, TaskBatchSampler
from minbert.data.task_file import choose_tasks
from minbert.data.tasks import TASKS
from minbert.errors import Interrupted
from minbert.task import Task
from minbert.training import log
from minbert.training.checkpoint import Checkpoints
from minbert.training.evaluation import predict_logits
from minbert.training.loop import Objective, backward, fit
from minbert.training.runtime import Runtime, setup
from minbert.training.settings import Settings
from regularizers import OPTIONS, build, first_stage
from support.factories import COURSE, CPU, QUICK, make_dataset, make_model, turn_off_dropout

SETTINGS = Settings(lr=1e-3, warmup=0.1, batch_size=34, accumulate=2)
SST5, QUORA, STS = choose_tasks(COURSE)
ROWS = [3, 1, 4, 15, 9, 2, 6]  # for four micro-batches: 2, 2, 2 and 1


@dataclass(frozen=True)
class Case:
    tasks: tuple[Task, ...]
    sizes: tuple[int, ...]  # the numbers of examples
    steps: int

    def datasets(self) -> list[Dataset]:
        return [make_dataset(task, size) for task, size in zip(self.tasks, self.sizes, strict=True)]

    def sampler(self, steps: int) -> BatchSampler | TaskBatchSampler:
        length = {"epochs": None, "max_steps": steps}
        if len(self.tasks) == 1:
            return BatchSampler(*self.datasets(), SETTINGS.batch_size, seed=3, **length)
        return TaskBatchSampler(self.datasets(), "proportional", SETTINGS.batch_size, seed=3, **length)


# Four batches of 34, whose micro-batches have 9, 9, 8 and 8 rows, and one of 30 with 8, 8, 7 and 7: MINE could use
# those of rank 0, and must use none.
SINGLE = Case((TASKS["rte"],), (166,), steps=8)
# 3, 2 and 2 batches, of which the last ones do not divide evenly.
MULTITASK = Case((SST5, replace(QUORA, separate=True), STS), (94, 66, 47), steps=7)


def objective_for(option: str, case: Case, dropout: bool = True) -> Objective:
    """With a weight for one of the tasks. In float64 without dropout: then one process and two can be compared."""
    model, method = make_model(*case.tasks), build(option)
    method.attach(model)
    objective = Objective(model, method, {"quora": 0.5})
    if not dropout:
        turn_off_dropout(model)
        objective.double()
    return objective


@contextmanager
def same_noise() -> Iterator[None]:
    """Noise is the same for every example, in whichever process it is, and that of a weight is the same on both."""
    draws, constant = (torch.randn_like, torch.rand_like), torch.full((1, 32, 12), 3e-3, dtype=torch.float64)
    constant[:, ::2] *= -2  # some variety over the tokens: a LayerNorm would remove a shift of all of them
    torch.randn_like = torch.rand_like = lambda x: (
        constant[:, : x.shape[1]].expand_as(x) if x.ndim == 3 else x.detach().abs() * 3
    )
    try:
        yield
    finally:
        torch.randn_like, torch.rand_like = draws


def first_gradient(option: str, case: Case, dataset: Dataset, runtime: Runtime) -> dict[str, torch.Tensor]:
    """Of the first step, without dropout, on a batch that does not divide evenly."""
    objective = objective_for(option, case, dropout=False).train()
    wrapped = runtime.wrap(objective, some_unused=len(case.tasks) > 1)
    with same_noise():
        backward(wrapped, dataset, ROWS, SETTINGS, runtime, runtime.scaler(), step=0)
    return {name: p.grad for name, p in objective.model.named_parameters() if p.grad is not None}


def check_first_gradients(option: str, case: Case, runtime: Runtime) -> None:
    for dataset in case.datasets():
        name = f"{option}, {dataset.task.name}"
        together, alone = (first_gradient(option, case, dataset, r) for r in (runtime, CPU))
        assert together.keys() == alone.keys(), (
            f"{name}: other parameters have a gradient in two processes. A zero gradient is not None"
        )
        one, other = (torch.cat([g.flatten() for g in gradients.values()]) for gradients in (together, alone))
        assert (one - other).norm() <= 1e-6 * other.norm(), (
            f"{name}: the first gradient of two processes differs from that of one. DDP averages what .backward() of "
            "the objective computes: never call .backward() or write to .grad, and return means over the batch"
        )


def check_equal_on_both_ranks(tensors: Iterable[torch.Tensor], what: str) -> None:
    for tensor in tensors:
        pair = [torch.empty_like(tensor) for _ in range(2)]
        dist.all_gather(pair, tensor.detach().contiguous())
        assert torch.equal(*pair), (
            f"{what} differs between the ranks. What a method learns outside of the objective's gradient must be "
            "averaged over the ranks (estimators.mean_over_ranks)"
        )


def train(
    option: str, case: Case, runtime: Runtime, steps: int, dropout: bool = True, checkpoints: Checkpoints | None = None
) -> tuple[dict[str, torch.Tensor], list[float]]:
    """The state after that many steps, and the loss of each step."""
    objective, rows = objective_for(option, case, dropout), []
    fit(objective, case.sampler(steps), lambda epoch: {}, SETTINGS, runtime, rows.append, checkpoints)
    return objective.state_dict(), [row["loss"] for row in rows]


def draws_nothing(option: str, case: Case) -> bool:
    """Whether its gradient follows from weights and batch alone: then one process and two go the same way."""
    objective, dataset, gradients = objective_for(option, case, dropout=False).train(), case.datasets()[0], []
    for seed in (1, 2):
        objective.zero_grad()
        objective(dataset.collate(list(range(10)), seed=seed))[0].backward()
        gradients.append(torch.cat([p.grad.flatten() for p in objective.parameters() if p.grad is not None]))
    return torch.equal(*gradients)


def check_training(case: Case, runtime: Runtime) -> None:
    """First gradients, whole runs, and predictions."""
    for option in OPTIONS:
        check_first_gradients(option, case, runtime)
        state, losses = train(option, case, runtime, case.steps)
        assert len(losses) == case.steps
        check_equal_on_both_ranks(state.values(), option)
    option = list(OPTIONS)[-1]
    for dataset in case.datasets():
        shared, whole = (predict_logits(objective_for(option, case).model, dataset, 3, r) for r in (runtime, CPU))
        assert len(shared) == len(dataset) and np.allclose(shared, whole, atol=1e-6), "predictions differ"


def check_losses(case: Case, runtime: Runtime) -> None:
    """Those of each step, in one process and in two, of every method that draws nothing."""
    options = [option for option in OPTIONS if draws_nothing(option, case)]
    assert len(options) > len(OPTIONS) / 4
    for option in options:
        (_, one), (_, other) = (train(option, case, r, case.steps, dropout=False) for r in (runtime, CPU))
        # In float64 and with small steps: Adam enlarges rounding errors where a gradient is nearly 0.
        assert np.allclose(one, other, rtol=0, atol=1e-8), f"{option}: {np.subtract(one, other)}"


def check_resume(runtime: Runtime, folder: Path) -> None:
    """A signal that reaches one process alone stops both after the same step, and both go on."""
    stateful = [option for option in OPTIONS if objective_for(option, SINGLE).method.state_dict()]
    option = stateful[0]
    collate, count = Dataset.collate, itertools.count(1)

    def interrupt_in_step_three(dataset: Dataset, rows: list[int], seed: int = 0):
        if runtime.rank == 1 and next(count) == 3 * SETTINGS.accumulate:
            os.kill(os.getpid(), signal.SIGTERM)
        return collate(dataset, rows, seed)

    Dataset.collate = interrupt_in_step_three
    try:
        with runtime.signals:
            train(option, SINGLE, runtime, 14, checkpoints=Checkpoints(folder, active=runtime.is_main))
        raise AssertionError("no process noticed the signal")
    except Interrupted:
        dist.barrier()
    finally:
        Dataset.collate = collate
    checkpoints = Checkpoints(folder, active=runtime.is_main)
    assert checkpoints.files()[-1].name.split("-")[1] == "step10"
    (whole, _), (resumed, _) = (train(option, SINGLE, runtime, 14, checkpoints=c) for c in (None, checkpoints))
    assert all(torch.equal(whole[name], resumed[name]) for name in whole), f"{option}: the resumed run differs"


def main() -> None:
    folder, what = Path(sys.argv[1]), sys.argv[2]
    torch.set_num_threads(1)
    vars(first_stage).update(QUICK)
    with setup("cpu", "fp32") as runtime:
        if what == "resume":
            check_resume(runtime, folder)
        else:
            log.LOG_EVERY = 1  # a row for each step
            check_training(SINGLE if what == "single" else MULTITASK, runtime)
            if what == "multitask":
                check_losses(MULTITASK, runtime)
        group = weakref.ref(dist.group.WORLD)
    gc.collect()
    # Its threads would go on while Python ends, and now and then abort the process: "terminate called without an
    # active exception".
    assert group() is None, "the process group outlived the run"
    if runtime.is_main:
        print("all equal")


if __name__ == "__main__":
    main()

"""Run by test_runtime.py as two gloo processes: every option, on both ranks, must train as one process would."""

import itertools
import os
import signal
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist

from minbert.errors import Interrupted
from minbert.training.checkpoint import Checkpoints
from minbert.training.evaluation import predict_logits
from minbert.training.loop import NOWHERE, backward, fit
from minbert.training.objective import Objective
from minbert.training.runtime import Runtime, setup
from minbert.training.settings import Settings
from regularizers import OPTIONS, build, mutual_information
from support.factories import CPU, QUICK, Log, make_dataset, make_model

SETTINGS = Settings(lr=1e-2, warmup=0.1, batch_size=34, accumulate=2)
EXAMPLES = 166  # four batches of 34, two micro-batches of 9 and two of 8; and 30: MINE could use rank 0's 8, not the 7


def objective_for(option: str, dropout: float) -> Objective:
    model = make_model(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    objective = Objective(model, build(option))
    objective.method.attach(model)
    return objective


def gradient(option: str, runtime: Runtime) -> torch.Tensor:
    """Of the first step, without dropout, on a batch that does not divide evenly."""
    objective = objective_for(option, dropout=0.0).double().train()
    wrapped = runtime.wrap(objective, some_unused=False)
    draws, same = (torch.randn_like, torch.rand_like), torch.full((32, 32, 12), 3e-3, dtype=torch.float64)
    # The same for every example, however dealt out, and a weight's the same on both ranks.
    torch.randn_like = torch.rand_like = lambda x: same[: x.shape[0], : x.shape[1]] if x.ndim == 3 else x.detach() * 3
    try:
        backward(wrapped, make_dataset(), [3, 1, 4, 15, 9, 2, 6], SETTINGS, runtime, runtime.scaler(), 0)
    finally:
        torch.randn_like, torch.rand_like = draws
    return torch.cat([p.grad.flatten() for p in objective.model.parameters() if p.grad is not None])


def check_equal_on_both(tensors, what: str) -> None:
    for tensor in tensors:
        pair = [torch.empty_like(tensor) for _ in range(2)]
        dist.all_gather(pair, tensor.detach().contiguous())
        assert torch.equal(*pair), f"{what} differs between the ranks"


def train(option: str, runtime: Runtime, steps: int, checkpoint=NOWHERE, interrupt_at: int = 0) -> dict:
    """The state after that many steps; before step `interrupt_at` this process gets a SIGTERM."""
    dataset, objective = make_dataset(size=EXAMPLES), objective_for(option, dropout=0.1)
    collate, count = dataset.collate, itertools.count(1)

    def collate_and_interrupt(rows):
        if next(count) == interrupt_at * SETTINGS.accumulate:
            os.kill(os.getpid(), signal.SIGTERM)
        return collate(rows)

    dataset.collate = collate_and_interrupt
    plan = lambda epoch: [(dataset, rows) for rows in dataset.shuffled(SETTINGS.batch_size, 0, epoch)]  # noqa: E731
    fit(objective, plan, lambda epoch: {}, steps, SETTINGS, runtime, Log(), checkpoint)
    return objective.state_dict()


def check_resume(runtime: Runtime, folder: Path) -> None:
    """A signal that reaches one process alone stops both after the same step, and both go on."""
    checkpoint = lambda: Checkpoints(folder, active=runtime.is_main)  # noqa: E731
    try:
        with runtime.signals:
            train("smart", runtime, 14, checkpoint(), interrupt_at=3 if runtime.rank else 0)
        raise AssertionError("the signal was not heard")
    except Interrupted:
        dist.barrier()
    assert checkpoint().files()[-1].name.split("-")[1] == "step10"
    whole, resumed = train("smart", runtime, 14), train("smart", runtime, 14, checkpoint())
    assert all(torch.equal(whole[name], resumed[name]) for name in whole), "resumed differs"


def main() -> None:
    torch.set_num_threads(1)
    vars(mutual_information).update(QUICK)
    runtime, alone = setup("cpu", "fp32"), CPU
    dataset = make_dataset()
    for option in OPTIONS:
        together, single = gradient(option, runtime), gradient(option, alone)
        assert (together - single).norm() <= 1e-6 * single.norm(), f"{option}: the first gradient differs"
        check_equal_on_both(train(option, runtime, 8).values(), option)
        shared, whole = (predict_logits(objective_for(option, 0.1).model, dataset, 3, r) for r in (runtime, alone))
        assert np.allclose(shared, whole, atol=1e-6), f"{option}: predictions differ"
    check_resume(runtime, Path(sys.argv[1]))
    print("all equal")
    dist.barrier()  # as Runtime.__exit__ does
    dist.destroy_process_group()


if __name__ == "__main__":
    main()

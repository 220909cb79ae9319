"""Run by test_runtime.py as two gloo processes: three tasks, pairs of both kinds, every option."""

from dataclasses import replace

import numpy as np
import torch
from two_processes import check_equal_on_both

from minbert.data.sampling import TaskBatchSampler
from minbert.data.tasks import choose_tasks
from minbert.training.evaluation import predict_logits
from minbert.training.loop import backward, fit
from minbert.training.objective import Objective
from minbert.training.runtime import Runtime, setup
from minbert.training.settings import MultitaskSettings
from regularizers import OPTIONS, build, mutual_information
from support.factories import COURSE, CPU, QUICK, Log, make_dataset, make_model

SETTINGS = MultitaskSettings(lr=1e-3, warmup=0.1, batch_size=34, accumulate=2, data_seed=3, max_steps=20)
SST5, QUORA, STS = choose_tasks(COURSE)
TASKS = (SST5, replace(QUORA, separate=True), STS)
SIZES = (94, 66, 47)  # 3, 2 and 2 batches; the last ones do not divide evenly
STEPS = 7
EXACT = ("finetune", "l2sp", "adapter", "lhuc", "pal", "low-rank")  # they draw nothing; the others' draws differ


def objective_for(option: str, dropout: float) -> Objective:
    model = make_model(*TASKS, hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    method = build(option)
    method.attach(model)
    return Objective(model, method, {"quora": 0.5}).to(torch.float64 if dropout == 0 else torch.float32)


def gradient(option: str, runtime: Runtime, dataset, rows: list[int]) -> dict[str, torch.Tensor]:
    """Of the first step, without dropout."""
    objective = objective_for(option, dropout=0.0).train()
    wrapped = runtime.wrap(objective, some_unused=True)
    backward(wrapped, dataset, rows, SETTINGS, runtime, runtime.scaler(), 0)
    return {name: p.grad for name, p in objective.model.named_parameters() if p.grad is not None}


def check_gradients(option: str, runtime: Runtime, datasets) -> None:
    for dataset in datasets:
        together, single = (gradient(option, r, dataset, [3, 1, 4, 15, 9, 2, 6]) for r in (runtime, CPU))
        assert together.keys() == single.keys(), f"{option}, {dataset.task.name}: other parameters have a gradient"
        one, other = (torch.cat([g.flatten() for g in gradients.values()]) for gradients in (together, single))
        assert (one - other).norm() <= 1e-6 * other.norm(), f"{option}, {dataset.task.name}: the first gradient differs"


def train(option: str, runtime: Runtime, dropout: float, steps: int, datasets) -> tuple[dict, list[float], list[int]]:
    """The state after that many steps; the loss and the task of each."""
    plan, objective, log = TaskBatchSampler(datasets, SETTINGS), objective_for(option, dropout), Log()
    tasks = []

    def watched(epoch: int):
        for dataset, rows in plan(epoch):
            tasks.append(datasets.index(dataset))
            yield dataset, rows

    fit(objective, lambda epoch: list(watched(epoch)), lambda epoch: {}, steps, SETTINGS, runtime, log)
    return objective.state_dict(), [row["loss"] for row in log.rows], tasks


def main() -> None:
    torch.set_num_threads(1)
    vars(mutual_information).update(QUICK)
    meter.LOG_EVERY = 1
    with setup("cpu", "fp32") as runtime:
        check(runtime)
    if runtime.is_main:
        print("all equal")


def check(runtime: Runtime) -> None:
    datasets = [make_dataset(task, size) for task, size in zip(TASKS, SIZES)]
    for option in OPTIONS:
        state, _, tasks = train(option, runtime, 0.1, STEPS, datasets)
        check_equal_on_both([torch.tensor(tasks)], f"{option}: the tasks")
        assert len(set(tasks[:STEPS])) == 3, "a task is missing"
        check_equal_on_both(state.values(), option)
        if option in EXACT:
            check_gradients(option, runtime, datasets)
            (*_, one, _), (*_, other, _) = (train(option, r, 0.0, 20, datasets) for r in (runtime, CPU))
            # In float64; in float32 Adam makes much of roundings where a gradient is nearly 0.
            assert len(one) == 20 and np.allclose(one, other, rtol=0, atol=1e-8), f"{option}: {one} {other}"
    for dataset in datasets:
        shared, whole = (predict_logits(objective_for("pal", 0.1).model, dataset, 3, r) for r in (runtime, CPU))
        assert len(shared) == len(dataset) and np.allclose(shared, whole, atol=1e-6), "predictions differ"


if __name__ == "__main__":
    main()

"""Which batches an epoch trains on."""

from collections import Counter
from itertools import pairwise

import pytest
from support.factories import make_dataset

from minbert.data.sampling import SAMPLINGS, TaskBatchSampler, apportion
from minbert.data.tasks import TASKS
from minbert.training.settings import MultitaskSettings

NAMES, SIZES, BATCH = ("rte", "stsb", "mrpc"), (23, 3, 61), 4  # 6, 1 and 16 batches
EPOCHS = 4
DATASETS = [make_dataset(TASKS[name], size) for name, size in zip(NAMES, SIZES)]


def make_plan(sampling: str, epochs: int = EPOCHS, seed: int = 5, datasets=DATASETS, **more) -> TaskBatchSampler:
    more = {"epochs": epochs, "batch_size": BATCH, "data_seed": seed, "sampling": sampling} | more
    return TaskBatchSampler(datasets, MultitaskSettings(**more))


def passes(plan: TaskBatchSampler, i: int) -> list[list[int]]:
    """The rows of task i, cut into passes over it; the last may be cut short."""
    stream = [batch for epoch in range(1, EPOCHS + 1) for dataset, batch in plan(epoch) if dataset is DATASETS[i]]
    return [stream[start : start + plan.sizes[i]] for start in range(0, len(stream), plan.sizes[i])]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_pass_over_a_task_meets_every_row_once_and_in_another_order(sampling):
    plan = make_plan(sampling)
    for i, size in enumerate(SIZES):
        *whole, last = [[row for batch in batches for row in batch] for batches in passes(plan, i)]
        assert all(sorted(rows) == list(range(size)) for rows in whole)
        assert len(set(last)) == len(last)
        assert size == 3 or all(one != other for one, other in pairwise(whole))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_an_epoch_has_as_many_steps_as_there_are_batches_and_forgets_no_task(sampling):
    plan = make_plan(sampling)
    assert plan.epoch_steps == 23 and plan.steps == 92 and plan.epochs == EPOCHS
    for epoch in range(1, EPOCHS + 1):
        steps = plan(epoch)
        found = Counter(DATASETS.index(dataset) for dataset, _ in steps)
        assert len(steps) == 23 and found.keys() == {0, 1, 2}
        assert [found[i] for i in range(3)] == plan.counts(epoch)


def test_proportional_sampling_meets_every_example_once_an_epoch():
    plan = make_plan("proportional")
    for epoch in (1, 2):
        steps = plan(epoch)
        for i, size in enumerate(SIZES):
            rows = [row for dataset, batch in steps if dataset is DATASETS[i] for row in batch]
            assert sorted(rows) == list(range(size))
    orders = [[DATASETS.index(dataset) for dataset, _ in plan(epoch)] for epoch in (1, 2)]
    assert orders[0] != orders[1] and all(order != sorted(order) for order in orders)


def test_round_robin_takes_turns_across_the_epochs():
    plan = make_plan("round-robin")
    turns = [DATASETS.index(dataset) for epoch in range(1, EPOCHS + 1) for dataset, _ in plan(epoch)]
    assert turns == [step % 3 for step in range(92)]  # 23 is no multiple of 3
    assert plan.probabilities(3) == pytest.approx([1 / 3] * 3)


def test_the_probabilities_of_the_paper():
    """p_i ∝ N_i^α; α_e = 1 - 0.8 (e - 1)/(E - 1)"""
    for sampling, epoch, alpha in (
        ("proportional", 3, 1.0), ("sqrt", 2, 0.5), ("annealed", 1, 1.0), ("annealed", 2, 1 - 0.8 / 3),
        ("annealed", 4, 0.2), ("round-robin", 1, 0.0),
    ):  # fmt: skip
        total = 6**alpha + 1 + 16**alpha
        expected = [6**alpha / total, 1 / total, 16**alpha / total]
        assert make_plan(sampling).probabilities(epoch) == pytest.approx(expected)
    assert make_plan("annealed", epochs=1).probabilities(1) == pytest.approx([6 / 23, 1 / 23, 16 / 23])  # not 0/0


def test_counts_are_the_probabilities():
    """Each to the next whole number, and 10⁵ steps hit them all."""
    for shares in ([6 / 23, 1 / 23, 16 / 23], [0.1, 0.2, 0.7], [1.0], [1 / 3] * 3):
        for total in (0, 1, 7, 30, 100_000):
            counts = apportion(total, shares)
            assert sum(counts) == total and all(abs(n - total * p) < 1 for n, p in zip(counts, shares))
    assert apportion(10, [0.26, 0.37, 0.37]) == [2, 4, 4] and apportion(30, [0.1, 0.9]) == [3, 27]


def test_the_order_of_the_tasks_is_random():
    """Where each task stands, over many epochs, is what chance alone would do: its mean place is the middle."""
    plan = make_plan("proportional", epochs=400)
    places = [step for epoch in range(1, 401) for step, task in enumerate(plan.order(epoch)) if task == 1]
    assert len(places) == 400 and set(places) == set(range(23))
    assert abs(sum(places) / 400 - 11) < 4 * (23**2 / 12 / 400) ** 0.5  # four standard errors


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_a_plan_follows_from_its_seed(sampling):
    rows = [[batch for _, batch in make_plan(sampling, seed=seed)(3)] for seed in (5, 5, 6)]
    assert rows[0] == rows[1] != rows[2]


def test_the_order_of_the_tasks_follows_from_the_seed_too():
    orders = [make_plan("sqrt", seed=seed).order(1) for seed in (5, 5, 6)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_one_task_alone_is_what_train_py_does(sampling):
    plan = make_plan(sampling, datasets=DATASETS[:1])
    for epoch in (1, 2, 3):
        expected = DATASETS[0].shuffled(BATCH, 5, epoch)
        assert [batch for _, batch in plan(epoch)] == expected


def test_steps_may_be_given_instead_of_epochs():
    plan = make_plan("annealed", epochs=None, max_steps=47)
    assert (plan.steps, plan.epochs) == (47, 3)  # the third is cut short
    assert plan.probabilities(3) == pytest.approx(make_plan("annealed", epochs=3).probabilities(3))


def test_what_is_printed():
    assert make_plan("sqrt").describe() == "sqrt: rte 0.329, stsb 0.134, mrpc 0.537"
    once = "annealed: rte 0.261, stsb 0.043, mrpc 0.696: in its only epoch it is proportional"
    assert make_plan("annealed", epochs=1).describe() == once
    first, last = "rte 0.261, stsb 0.043, mrpc 0.696", "rte 0.343, stsb 0.240, mrpc 0.417"
    assert make_plan("annealed").describe() == f"annealed: {first} in the first epoch to {last} in the last"

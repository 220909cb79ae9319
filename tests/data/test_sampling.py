"""Which batches an epoch trains on, for one task and for several."""

from collections import Counter
from itertools import pairwise

import pytest
from support.factories import make_dataset

from minbert.data.sampling import SAMPLINGS, BatchSampler, TaskBatchSampler, apportion
from minbert.data.tasks import TASKS

NAMES, SIZES, BATCH = ("rte", "stsb", "mrpc"), (23, 3, 61), 4  # 6, 1 and 16 batches
EPOCHS = 4
DATASETS = [make_dataset(TASKS[name], size) for name, size in zip(NAMES, SIZES)]


def make_sampler(
    sampling: str, epochs: int | None = EPOCHS, seed: int = 5, datasets=DATASETS, max_steps: int | None = None
) -> TaskBatchSampler:
    return TaskBatchSampler(datasets, sampling, BATCH, seed, epochs, max_steps)


def passes(sampler: TaskBatchSampler, i: int) -> list[list[int]]:
    """The rows of task i, cut into passes over it; the last may be cut short."""
    stream = [
        batch for epoch in range(1, EPOCHS + 1) for dataset, batch in sampler.epoch(epoch) if dataset is DATASETS[i]
    ]
    return [stream[start : start + sampler.sizes[i]] for start in range(0, len(stream), sampler.sizes[i])]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_every_pass_over_a_task_meets_every_row_once_and_in_another_order(sampling):
    sampler = make_sampler(sampling)
    for i, size in enumerate(SIZES):
        *whole, last = [[row for batch in batches for row in batch] for batches in passes(sampler, i)]
        assert all(sorted(rows) == list(range(size)) for rows in whole)
        assert len(set(last)) == len(last)
        assert size == 3 or all(one != other for one, other in pairwise(whole))


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_an_epoch_has_as_many_steps_as_there_are_batches_and_leaves_out_no_task(sampling):
    sampler = make_sampler(sampling)
    assert sampler.epoch_steps == 23 and sampler.steps == 92 and sampler.epochs == EPOCHS
    for epoch in range(1, EPOCHS + 1):
        steps = sampler.epoch(epoch)
        counts = Counter(DATASETS.index(dataset) for dataset, _ in steps)
        assert len(steps) == 23 and counts.keys() == {0, 1, 2}
        assert [counts[i] for i in range(3)] == sampler.counts(epoch)


def test_a_sampler_needs_a_length():
    with pytest.raises(ValueError, match="give epochs or max_steps"):
        make_sampler("proportional", epochs=None)
    with pytest.raises(ValueError, match="give epochs or max_steps"):
        BatchSampler(DATASETS[0], BATCH, seed=0, epochs=None)


def test_proportional_sampling_meets_every_example_once_an_epoch():
    sampler = make_sampler("proportional")
    for epoch in (1, 2):
        steps = sampler.epoch(epoch)
        for i, size in enumerate(SIZES):
            rows = [row for dataset, batch in steps if dataset is DATASETS[i] for row in batch]
            assert sorted(rows) == list(range(size))
    orders = [[DATASETS.index(dataset) for dataset, _ in sampler.epoch(epoch)] for epoch in (1, 2)]
    assert orders[0] != orders[1] and all(order != sorted(order) for order in orders)


def test_round_robin_takes_turns_across_the_epochs():
    sampler = make_sampler("round-robin")
    turns = [DATASETS.index(dataset) for epoch in range(1, EPOCHS + 1) for dataset, _ in sampler.epoch(epoch)]
    assert turns == [step % 3 for step in range(92)]  # 23 is no multiple of 3
    assert sampler.probabilities(3) == pytest.approx([1 / 3] * 3)


def test_the_probabilities_of_tasks_are_those_of_the_paper():
    """p_i ∝ N_i^α; α_e = 1 - 0.8 (e - 1)/(E - 1)"""
    for sampling, epoch, alpha in (
        ("proportional", 3, 1.0), ("sqrt", 2, 0.5), ("annealed", 1, 1.0), ("annealed", 2, 1 - 0.8 / 3),
        ("annealed", 4, 0.2), ("round-robin", 1, 0.0),
    ):  # fmt: skip
        total = 6**alpha + 1 + 16**alpha
        expected = [6**alpha / total, 1 / total, 16**alpha / total]
        assert make_sampler(sampling).probabilities(epoch) == pytest.approx(expected)
    assert make_sampler("annealed", epochs=1).probabilities(1) == pytest.approx([6 / 23, 1 / 23, 16 / 23])  # not 0/0


def test_numbers_of_steps_are_the_probabilities_rounded_up_or_down():
    """Each differs from its exact share by less than 1."""
    for shares in ([6 / 23, 1 / 23, 16 / 23], [0.1, 0.2, 0.7], [1.0], [1 / 3] * 3):
        for total in (0, 1, 7, 30, 100_000):
            counts = apportion(total, shares)
            assert sum(counts) == total and all(abs(n - total * p) < 1 for n, p in zip(counts, shares))
    assert apportion(10, [0.26, 0.37, 0.37]) == [2, 4, 4] and apportion(30, [0.1, 0.9]) == [3, 27]


def test_the_order_of_the_tasks_is_random():
    """Where each task stands, over many epochs, is what chance alone would do: its mean place is the middle."""
    sampler = make_sampler("proportional", epochs=400)
    places = [step for epoch in range(1, 401) for step, task in enumerate(sampler.order(epoch)) if task == 1]
    assert len(places) == 400 and set(places) == set(range(23))
    assert abs(sum(places) / 400 - 11) < 4 * (23**2 / 12 / 400) ** 0.5  # four standard errors


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_the_batches_follow_from_the_seed(sampling):
    rows = [[batch for _, batch in make_sampler(sampling, seed=seed).epoch(3)] for seed in (5, 5, 6)]
    assert rows[0] == rows[1] != rows[2]


def test_the_order_of_the_tasks_follows_from_the_seed():
    orders = [make_sampler("sqrt", seed=seed).order(1) for seed in (5, 5, 6)]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("sampling", SAMPLINGS)
def test_several_tasks_that_are_only_one_have_the_batches_of_one_task(sampling):
    one, several = BatchSampler(DATASETS[0], BATCH, 5, EPOCHS), make_sampler(sampling, datasets=DATASETS[:1])
    assert (one.steps, one.datasets) == (several.steps, several.datasets)
    assert all(one.epoch(epoch) == several.epoch(epoch) for epoch in (1, 2, 3))


def test_the_batches_of_one_task_are_the_shuffled_dataset_without_any_apportionment(monkeypatch):
    monkeypatch.setattr("minbert.data.sampling.apportion", lambda *_: pytest.fail("one task needs no apportionment"))
    sampler = BatchSampler(DATASETS[2], BATCH, 5, epochs=3)
    assert sampler.steps == 48
    for epoch in (1, 2, 3):
        expected = DATASETS[2].shuffled(BATCH, 5, epoch)
        assert sampler.epoch(epoch) == [(DATASETS[2], rows) for rows in expected]
        assert sorted(row for rows in expected for row in rows) == list(range(61))


def test_a_number_of_steps_may_be_given_for_one_task():
    assert BatchSampler(DATASETS[2], BATCH, 5, epochs=None, max_steps=33).steps == 33


def test_a_number_of_steps_may_be_given_for_several_tasks():
    sampler = make_sampler("annealed", epochs=None, max_steps=47)
    assert (sampler.steps, sampler.epochs) == (47, 3)  # the third is cut short
    assert sampler.probabilities(3) == pytest.approx(make_sampler("annealed", epochs=3).probabilities(3))


def test_the_description_has_the_share_of_each_task():
    assert make_sampler("sqrt").describe() == "sqrt: rte 0.329, stsb 0.134, mrpc 0.537"
    once = "annealed: rte 0.261, stsb 0.043, mrpc 0.696: in its only epoch it is proportional"
    assert make_sampler("annealed", epochs=1).describe() == once
    first, last = "rte 0.261, stsb 0.043, mrpc 0.696", "rte 0.343, stsb 0.240, mrpc 0.417"
    assert make_sampler("annealed").describe() == f"annealed: {first} in the first epoch to {last} in the last"

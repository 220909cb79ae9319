"""Which batches an epoch trains on: those of one task in random order, or of several tasks in turn.

For several tasks, Stickland & Murray 2019, arXiv:1902.02671v2, draw the task of each step with probabilities

    p_i ∝ N_i^α        α = 1 proportional, 1/2 sqrt        α_e = 1 - 0.8 (e - 1)/(E - 1) annealed, e = 1 .. E epochs

or take the tasks in turn (round-robin). Here N_i is the number of batches in a pass over task i. In an epoch of
S = Σ N_i steps, task i gets p_i S steps, rounded up or down, in random order. So only the order is random, and under
proportional sampling an epoch trains on each example exactly once.
"""

import itertools
import math
from collections.abc import Iterator

import torch

from minbert.data.dataset import Dataset
from minbert.random_state import derive_seed

SAMPLINGS = ("proportional", "sqrt", "annealed", "round-robin")
Steps = list[tuple[Dataset, list[int]]]  # the dataset and the rows of each step


class BatchSampler:
    """The batches of one task. An epoch takes each example once."""

    def __init__(self, dataset: Dataset, batch_size: int, seed: int, epochs: int | None, max_steps: int | None = None):
        self.datasets, self.batch_size, self.seed = [dataset], batch_size, seed
        epoch_steps = math.ceil(len(dataset) / batch_size)
        self.steps = total_steps(epoch_steps, epochs, max_steps)

    def epoch(self, number: int) -> Steps:
        """The steps of epoch `number`, from 1. They follow from the seed and the number alone."""
        (dataset,) = self.datasets
        return [(dataset, rows) for rows in dataset.shuffled(self.batch_size, self.seed, number)]


class TaskBatchSampler:
    """The batches of several tasks.

    Each task goes through its own batches, in a new order in each pass. A new epoch goes on where the last one ended.
    """

    def __init__(
        self,
        datasets: list[Dataset],
        sampling: str,
        batch_size: int,
        seed: int,
        epochs: int | None,
        max_steps: int | None = None,
    ):
        self.datasets, self.sampling, self.batch_size, self.seed = datasets, sampling, batch_size, seed
        self.sizes = [math.ceil(len(dataset) / batch_size) for dataset in datasets]  # N_i
        self.epoch_steps = sum(self.sizes)
        self.steps = total_steps(self.epoch_steps, epochs, max_steps)
        self.epochs = math.ceil(self.steps / self.epoch_steps)

    def epoch(self, number: int) -> Steps:
        """The steps of epoch `number`, from 1. They follow from the seed and the number alone."""
        earlier = [self.counts(e) for e in range(1, number)]
        batches = []
        for i in range(len(self.datasets)):
            used = sum(counts[i] for counts in earlier)
            batches.append(self.batches_from(used, i))
        return [(self.datasets[i], next(batches[i])) for i in self.order(number)]

    def probabilities(self, epoch: int) -> list[float]:
        """p_i of each task: its share of the steps."""
        alpha = {
            "proportional": 1.0,
            "sqrt": 0.5,
            "annealed": 1.0 - 0.8 * (epoch - 1) / max(1, self.epochs - 1),
            "round-robin": 0.0,
        }[self.sampling]
        shares = [size**alpha for size in self.sizes]
        return [share / sum(shares) for share in shares]

    def describe(self) -> str:
        """proportional: sst5 0.347, quora 0.407, sts 0.246"""
        first = self.describe_shares(1)
        if self.sampling != "annealed":
            return f"{self.sampling}: {first}"
        if self.epochs == 1:
            return f"{self.sampling}: {first}: in its only epoch it is proportional"
        return f"{self.sampling}: {first} in the first epoch to {self.describe_shares(self.epochs)} in the last"

    def describe_shares(self, epoch: int) -> str:
        pairs = zip(self.datasets, self.probabilities(epoch))
        return ", ".join(f"{dataset.task.name} {p:.3f}" for dataset, p in pairs)

    def order(self, epoch: int) -> list[int]:
        """The number of the task of each step."""
        if self.sampling == "round-robin":
            return self.turns(epoch)
        tasks = [i for i, count in enumerate(self.counts(epoch)) for _ in range(count)]
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "tasks", epoch))
        return [tasks[i] for i in torch.randperm(len(tasks), generator=generator)]

    def turns(self, epoch: int) -> list[int]:
        """Round-robin: the tasks in turn, where the epoch before ended."""
        first = (epoch - 1) * self.epoch_steps
        return [step % len(self.datasets) for step in range(first, first + self.epoch_steps)]

    def counts(self, epoch: int) -> list[int]:
        """The number of steps of each task in the epoch."""
        if self.sampling == "round-robin":
            turns = self.turns(epoch)
            return [turns.count(i) for i in range(len(self.datasets))]
        return apportion(self.epoch_steps, self.probabilities(epoch))

    def batches_from(self, start: int, i: int) -> Iterator[list[int]]:
        """The batches of task i, pass after pass, without the first `start` of them."""
        passes, skipped = divmod(start, self.sizes[i])
        for number in itertools.count(passes + 1):
            yield from self.datasets[i].shuffled(self.batch_size, self.seed, number)[skipped:]
            skipped = 0


def total_steps(epoch_steps: int, epochs: int | None, max_steps: int | None) -> int:
    """The number of steps of the whole run. Raises ValueError if neither `epochs` nor `max_steps` gives it."""
    if max_steps is not None:
        return max_steps
    if epochs is None:
        raise ValueError("give epochs or max_steps")
    return epochs * epoch_steps


def apportion(total: int, shares: list[float]) -> list[int]:
    """Whole numbers that sum to `total`, one for each share: rounded down, and the largest remainders rounded up."""
    counts = [math.floor(total * share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - total * shares[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts

"""Which batches an epoch trains on: the sampling of tasks.

Stickland & Murray 2019, arXiv:1902.02671v2, choose the task of each step at random, with probabilities

    p_i ∝ N_i^α        α = 1 proportional, 1/2 sqrt        α_e = 1 - 0.8 (e - 1)/(E - 1) annealed, e = 1 .. E epochs

or go round robin. Here N_i counts the batches of a pass over task i, and in an epoch of S = Σ N_i steps task i has its
share of p_i S steps, rounded up or down, in random order. So nothing but the order is left to chance, and under
proportional sampling an epoch trains on each example exactly once.
"""

import itertools
import math
from collections.abc import Iterator

import torch

from minbert.batches import Dataset
from minbert.runtime import derive_seed

SAMPLINGS = ("proportional", "sqrt", "annealed", "round-robin")


class Plan:
    """plan(epoch) -> [(dataset, rows), ...]: the steps of that epoch, counted from 1, of datasets of one task each.

    Each task goes through its batches in an order of its own, a new one in each pass; an epoch goes on where the last
    one ended. `steps` and `epochs` are those of the whole run.
    """

    def __init__(self, datasets: list[Dataset], settings):
        self.datasets, self.batch_size, self.seed = datasets, settings.batch_size, settings.data_seed
        self.sampling = settings.sampling
        self.sizes = [math.ceil(len(dataset) / self.batch_size) for dataset in datasets]  # N_i
        self.epoch_steps = sum(self.sizes)
        self.steps = settings.max_steps or settings.epochs * self.epoch_steps
        self.epochs = math.ceil(self.steps / self.epoch_steps)

    def __call__(self, epoch: int) -> list[tuple[Dataset, list[int]]]:
        earlier = [self.counts(e) for e in range(1, epoch)]
        batches = [self.batches_from(sum(counts[i] for counts in earlier), i) for i in range(len(self.datasets))]
        return [(self.datasets[i], next(batches[i])) for i in self.order(epoch)]

    def probabilities(self, epoch: int) -> list[float]:
        """p_i of each task."""
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
        lines = []
        for epoch in sorted({1, self.epochs} if self.sampling == "annealed" else {1}):
            pairs = zip(self.datasets, self.probabilities(epoch))
            lines.append(", ".join(f"{dataset.task.name} {p:.3f}" for dataset, p in pairs))
        if self.sampling == "annealed" and self.epochs == 1:
            lines[0] += ": in its only epoch it is proportional"
        return f"{self.sampling}: {' in the first epoch to '.join(lines)}" + " in the last" * (len(lines) > 1)

    def order(self, epoch: int) -> list[int]:
        """The number of each step's task."""
        if self.sampling == "round-robin":
            first = (epoch - 1) * self.epoch_steps
            return [step % len(self.datasets) for step in range(first, first + self.epoch_steps)]
        tasks = [i for i, count in enumerate(self.counts(epoch)) for _ in range(count)]
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "tasks", epoch))
        return [tasks[i] for i in torch.randperm(len(tasks), generator=generator)]

    def counts(self, epoch: int) -> list[int]:
        """How many steps each task has in the epoch."""
        if self.sampling == "round-robin":
            return [self.order(epoch).count(i) for i in range(len(self.datasets))]
        return apportion(self.epoch_steps, self.probabilities(epoch))

    def batches_from(self, start: int, i: int) -> Iterator[list[int]]:
        """Of task i: the batches of one pass after the other, without the first `start` of them all."""
        passes, skipped = divmod(start, self.sizes[i])
        for number in itertools.count(passes + 1):
            yield from self.datasets[i].shuffled(self.batch_size, self.seed, number)[skipped:]
            skipped = 0


def apportion(total: int, shares: list[float]) -> list[int]:
    """Whole numbers that sum to `total`, each its share of it, rounded: the largest remainders are rounded up."""
    counts = [math.floor(total * share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: counts[i] - total * shares[i])
    for i in by_remainder[: total - sum(counts)]:
        counts[i] += 1
    return counts

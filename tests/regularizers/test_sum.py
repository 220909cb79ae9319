"""Sum: several methods at once, each as if it were alone."""

from typing import ClassVar

import torch
from support.factories import make_dataset, make_model

from regularizers.base import Method, Sum


class Part(Method):
    """Writes down in which order the parts of a Sum attach."""

    order: ClassVar[list[str]] = []

    def __init__(self, name: str, inserts: bool = False, lr: float | None = None, fp32: bool = False):
        super().__init__()
        self.name, self.inserts, self.lr, self.fp32 = name, inserts, lr, fp32

    def attach(self, model):
        self.order.append(self.name)
        self.attached = torch.rand(1).item()

    def prepare(self, model, batches):
        self.prepared = torch.rand(1).item()

    def penalty(self, model, batch, clean):
        return {"draw": torch.rand(())}


def test_a_sum_attaches_inserting_parts_first_and_takes_the_most_careful_settings():
    a, b, c = Part("a", False, None, True), Part("b", True, 1e-3, False), Part("c", True, 3e-4, False)
    whole = Sum({"a": a, "b": b, "c": c})
    whole.attach(None)
    assert Part.order == ["b", "c", "a"]
    assert (whole.lr, whole.fp32) == (3e-4, True)


def test_a_part_of_a_sum_draws_the_same_whether_or_not_other_methods_are_present():
    batch = make_dataset().collate([1, 2, 3], seed=7)
    drawn = []
    for names in ("b", "ab"):
        parts = {name: Part(name) for name in names}
        whole = Sum(parts)
        whole.attach_with_seed(None, seed=5)
        whole.prepare_with_seed(None, None, seed=6)
        drawn.append((parts["b"].attached, parts["b"].prepared, whole.penalty(None, batch, None)["b.draw"].item()))
    assert drawn[0] == drawn[1]
    assert parts["a"].attached != parts["b"].attached and parts["a"].prepared != parts["b"].prepared


class Replacement(Method):
    def loss(self, model, batch, clean):
        return torch.rand(())


def test_the_part_of_a_sum_that_replaces_the_loss_draws_numbers_of_its_own():
    """They follow from the batch's seed; without such a part the task's own loss is the loss."""
    dataset, model = make_dataset(), make_model()
    first, again, other = (dataset.collate([1, 2, 3], seed=seed) for seed in (7, 7, 8))
    whole = Sum({"a": Part("a"), "b": Replacement()})
    clean = model(first)
    losses = [whole.loss(model, batch, clean) for batch in (first, again, other)]
    assert losses[0] == losses[1] != losses[2]
    assert losses[0] != Sum({"a": Replacement()}).loss(model, first, clean)
    assert Sum({"a": Part("a")}).loss(model, first, clean) == first.task.loss(clean.logits, first.labels)

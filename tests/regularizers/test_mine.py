"""MINE by its equations: the states and pairs it compares, and its three distances from the references."""

import pytest
import torch
from support.factories import KINDS
from support.information import only_term, ready

from minbert.errors import InputError
from regularizers import build
from regularizers.estimators import Estimators


def test_the_cls_states_of_neighbouring_layers_are_compared():
    method, model, batch = ready("mine", num_hidden_layers=4)
    clean = model(batch)
    states = method.states(clean, batch)
    assert states.shape == (10, 4, 12) and torch.equal(states[:, 2], clean.hidden[3][:, 0])
    estimators = method.estimators[batch.task.name]
    assert list(zip(estimators.left, estimators.right)) == [(0, 1), (1, 2), (2, 3)]


@pytest.mark.parametrize("mode, expected", [("abs", 0.5 + 3.0), ("squared", 0.25 + 9.0), ("signed", 0.5 - 3.0)])
def test_the_penalty_is_the_sum_of_the_distances_from_the_references(mode, expected, monkeypatch):
    method, model, batch = ready("mine", "weight=0.5", f"mode={mode}", task=KINDS["regression"])
    method.estimators["stsb"].reference.copy_(torch.tensor([2.0, 5.0]))
    monkeypatch.setattr(Estimators, "estimate", lambda self, z: torch.tensor([2.5, 2.0], dtype=torch.float64))
    assert only_term(method, model, batch).item() == pytest.approx(0.5 * expected, rel=1e-12)


def test_another_mode_is_refused():
    with pytest.raises(InputError, match="mode must be one of abs, squared, signed, not cube"):
        build("mine", ["mine.mode=cube"])

"""The information bottleneck by its equations: what it compares, and what the estimates cost."""

import pytest
import torch
from support.information import only_term, ready

from minbert.errors import InputError
from regularizers import build
from regularizers.estimators import Estimators


@pytest.fixture
def estimates(monkeypatch):
    """Estimates of 0.5 and -3 for the two layers of the tiny model."""
    values = torch.tensor([0.5, -3.0], dtype=torch.float64)
    monkeypatch.setattr(Estimators, "estimate", lambda self, z: values)


@pytest.mark.parametrize("layers, chosen", [("all", [1, 2, 3, 4]), ("top4", [2, 3, 4, 5])])
def test_layers_are_compared_with_the_mean_of_the_real_embeddings(layers, chosen):
    method, model, batch = ready("ib", f"layers={layers}", num_hidden_layers=5)
    clean = model.eval()(batch)
    states = method.states(clean, batch)
    for row in range(10):
        real = clean.hidden[0][row, : int(batch.attention_mask[row].sum())]
        assert torch.allclose(states[row, 0], real.mean(0))
    assert states.shape == (10, 5, 12)
    assert all(torch.equal(states[:, k + 1], clean.hidden[i][:, 0]) for k, i in enumerate(chosen))
    estimators = method.estimators[batch.task.name]
    assert list(zip(estimators.left, estimators.right)) == [(0, 1), (0, 2), (0, 3), (0, 4)]


@pytest.mark.parametrize("option", ["ib", "ib-sp"])
def test_the_input_is_a_constant(option):
    """Information about the input is changed at the layers. The gradient must not change the input instead."""
    method, model, batch = ready(option)
    states = method.states(model(batch), batch)
    embeddings = model.bert.embeddings.token.weight
    through_x, through_t = (
        torch.autograd.grad(s.sum(), embeddings, allow_unused=True, retain_graph=True)[0]
        for s in (states[:, 0], states[:, 1])
    )
    assert through_x.abs().max() == 0 and through_t.abs().max() > 0


@pytest.mark.parametrize("layers, count", [(1, 1), (3, 3), (4, 4), (7, 4)])
def test_top4_takes_as_many_layers_as_there_are_up_to_four(layers, count):
    assert len(build("ib", ["ib.layers=top4"]).parts["ib"].chosen_layers(layers)) == count


def test_ib_is_the_sum_of_the_estimates_that_are_above_zero(estimates):
    assert only_term(*ready("ib", "weight=0.7")).item() == pytest.approx(0.7 * 0.5, rel=1e-12)


@pytest.mark.parametrize("mode, expected", [("abs", 1.5 + 8.0), ("squared", 2.25 + 64.0), ("signed", -1.5 - 8.0)])
def test_ib_sp_is_the_sum_of_the_distances_from_the_references(mode, expected, estimates):
    method, model, batch = ready("ib-sp", "weight=0.7", f"mode={mode}")
    method.estimators[batch.task.name].reference.copy_(torch.tensor([2.0, 5.0]))
    assert only_term(method, model, batch).item() == pytest.approx(0.7 * expected, rel=1e-12)


@pytest.mark.parametrize(
    "option, setting, message",
    [
        ("ib", "layers=top", "layers must be one of all, top4, not top"),
        ("ib-sp", "layers=top", "layers must be one of all, top4, not top"),
        ("ib-sp", "mode=cube", "mode must be one of abs, squared, signed, not cube"),
        ("ib", "mode=abs", "ib does not know mode; its hyper-parameters are weight, "),
    ],
)
def test_a_bad_setting_is_refused(option, setting, message):
    with pytest.raises(InputError, match=message):
        build(option, [f"{option}.{setting}"])

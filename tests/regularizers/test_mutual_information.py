"""What the methods with estimators of mutual information share: gradients, ascents, small batches, bad settings."""

import pytest
import torch
from support.factories import make_batch, make_model
from support.information import INFORMATION, TASK, only_term, ready

from minbert.errors import InputError
from regularizers import OPTIONS, build
from regularizers.estimators import Estimators

WITH_MODE = [name for name in INFORMATION if hasattr(OPTIONS[name], "mode")]


@pytest.mark.parametrize("option", INFORMATION)
def test_the_model_and_the_estimators_each_learn_from_their_own_gradient_alone(option):
    method, model, batch = ready(option)
    clean = model(batch)
    method.penalty(model, batch, clean)  # new networks may estimate less than 0, for which `ib` has no gradient
    networks = {n: p.detach().clone() for n, p in method.named_parameters()}
    weights = {n: p.detach().clone() for n, p in model.named_parameters()}
    penalty = method.penalty(model, batch, clean)["information"]
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(p, weights[n]) for n, p in model.named_parameters())
    assert all(not torch.equal(p, networks[n]) for n, p in method.named_parameters())
    networks = {n: p.detach().clone() for n, p in method.named_parameters()}
    penalty.backward()
    assert any(p.grad is not None and p.grad.norm() > 0 for p in model.parameters())
    assert all(p.grad is None and not p.requires_grad for p in method.parameters())
    assert all(torch.equal(p, networks[n]) for n, p in method.named_parameters())
    own = {id(p) for group in method.optimizers()[0].param_groups for p in group["params"]}
    assert own == {id(p) for p in method.parameters()} and not own & {id(p) for p in model.parameters()}


def gradient(option: str, mode: str, reference: float) -> tuple[torch.Tensor, float]:
    """The penalty's gradient by the token embeddings, and the penalty."""
    method, model, batch = ready(option, f"mode={mode}", "weight=0.5", hidden_dropout_prob=0.0)
    method.estimators[TASK.name].reference.fill_(reference)
    penalty = only_term(method, model, batch)
    return torch.autograd.grad(penalty, model.bert.embeddings.token.weight)[0], penalty.item()


def is_close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return (a - b).norm() <= 1e-9 * b.norm()


@pytest.mark.parametrize("option", WITH_MODE)
def test_only_with_the_signed_distance_is_the_gradient_blind_to_the_references(option):
    low, high = (gradient(option, "signed", reference) for reference in (-2.0, 5.0))
    assert is_close(low[0], high[0]) and low[0].norm() > 1e-6
    assert low[1] - high[1] == pytest.approx(0.5 * 2 * 7)  # two pairs
    below, above = (gradient(option, "abs", reference) for reference in (-2.0, 5.0))
    assert is_close(below[0], low[0]) and is_close(above[0], -low[0])
    assert below[1] == pytest.approx(low[1]) and above[1] == pytest.approx(-high[1])
    squared = gradient(option, "squared", 5.0)
    assert squared[1] > 0 and torch.nn.functional.cosine_similarity(squared[0].flatten(), above[0].flatten(), 0) > 0.99


@pytest.mark.parametrize("option", INFORMATION)
def test_a_micro_batch_of_fewer_than_eight_examples_has_no_penalty(option):
    method, model, _ = ready(option)
    networks = {n: t.clone() for n, t in method.state_dict().items()}
    batch = make_batch(TASK, rows=7)
    assert method.penalty(model, batch, model(batch)) == {}
    assert all(torch.equal(t, networks[n]) for n, t in method.state_dict().items())
    batch = make_batch(TASK, rows=8, tokens=10)
    assert method.penalty(model, batch, model(batch)).keys() == {"information"}


@pytest.mark.parametrize("option", INFORMATION)
def test_a_batch_is_estimated_before_the_networks_learn_from_it(option):
    method, model, batch = ready(option)
    estimators = method.estimators["rte"]
    z = estimators.project(method.states(model(batch), batch))
    before = estimators.estimate(z)
    assert torch.equal(method.follow(estimators, z), before)
    assert (estimators.estimate(z) > before).all()


@pytest.mark.parametrize("option", INFORMATION)
def test_the_networks_take_as_many_steps_as_ascents_says(option, monkeypatch):
    calls = []
    monkeypatch.setattr(Estimators, "ascend", lambda self, z, optimizer: calls.append(1))
    only_term(*ready(option, "ascents=3"))
    assert len(calls) == 3


@pytest.mark.parametrize("option", INFORMATION)
def test_without_weight_there_are_no_estimators(option):
    method, model, batch = ready(option, "weight=0")
    assert list(method.state_dict()) == [] and method.optimizers() == ()
    assert method.penalty(model, batch, model(batch)) == {}
    method.prepare(model, None)


@pytest.mark.parametrize("option", INFORMATION)
def test_a_model_with_one_layer_is_refused(option):
    with pytest.raises(InputError, match=f"^--option {option}: it compares layers, and the model has only one$"):
        build(option).attach(make_model(num_hidden_layers=1))


@pytest.mark.parametrize(
    "setting, message",
    [
        ("weight=-1", "weight must be at least 0 and finite, not -1.0"),
        ("marginals=some", "marginals must be one of all_pairs, permute, not some"),
        ("proj_dim=0", "proj_dim must be none or at least 1, not 0"),
        ("hidden=0", "hidden must be at least 1, not 0"),
        ("ascents=0", "ascents must be at least 1, not 0"),
        ("phi_lr=0", "phi_lr must be above 0 and finite, not 0.0"),
    ],
)
@pytest.mark.parametrize("option", INFORMATION)
def test_a_bad_setting_is_refused(option, setting, message):
    with pytest.raises(InputError, match=f"--set {option}: {message}"):
        build(option, [f"{option}.{setting}"])


@pytest.mark.parametrize("option", INFORMATION)
def test_the_settings_reach_the_estimators_and_their_optimizer(option):
    method, *_ = ready(option, "hidden=7", "proj_dim=5", "marginals=permute", "phi_lr=0.03")
    (estimators,), (optimizer,) = method.estimators.values(), method.optimizers()
    assert estimators.w_2.shape[1] == 7 and estimators.directions.shape[-1] == 5
    assert estimators.marginals == "permute"
    assert [(group["lr"], group["weight_decay"]) for group in optimizer.param_groups] == [(0.03, 1e-4)]

"""L2-SP: closed forms of its gradient, and what it covers."""

from dataclasses import replace

import pytest
import torch
from support.factories import make_batch, make_model

from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.optimizer import parameter_groups
from minbert.published import is_inserted
from regularizers import build
from regularizers.l2sp import L2sp


def moved(method, amount: float = 0.1):
    """A model that has left its start, in float64, and the start."""
    model = make_model().double()
    method.attach(model)
    start = {name: p.detach().clone() for name, p in model.named_parameters()}
    generator = torch.Generator().manual_seed(3)
    for p in model.parameters():
        p.data += amount * torch.randn(p.shape, dtype=p.dtype, generator=generator)
    return model, start


def is_weight(name: str) -> bool:
    return name.endswith("weight") and "norm" not in name


@pytest.mark.parametrize("include", ["weights", "all"])
def test_the_gradient_is_alpha_times_the_distance_and_beta_times_the_head(include):
    method = L2sp(alpha=0.3, beta=0.07, weight=2.0, include=include)
    model, start = moved(method)
    (penalty,) = method.penalty(model, make_batch(), None).values()
    expected = 0.0
    for name, p in model.named_parameters():
        if include == "all" or is_weight(name):
            centre = 0.0 if name.startswith("heads.") else start[name]
            strength = 0.07 if name.startswith("heads.") else 0.3
            expected += 2.0 * strength / 2 * ((p - centre) ** 2).sum().item()
    assert penalty.item() == pytest.approx(expected, rel=1e-12)
    gradients = torch.autograd.grad(penalty, list(model.parameters()), allow_unused=True)
    for (name, p), gradient in zip(model.named_parameters(), gradients):
        if include == "weights" and not is_weight(name):
            assert gradient is None
        elif name.startswith("heads."):
            assert torch.allclose(gradient, 2.0 * 0.07 * p, atol=1e-14)
        else:
            assert torch.allclose(gradient, 2.0 * 0.3 * (p - start[name]), atol=1e-14)


def test_modules_of_tasks_that_are_not_in_the_batch_get_no_gradient():
    model, method = make_model(TASKS["rte"], TASKS["stsb"]), build("l2sp+pal", ["pal.size=6", "pal.heads=2"])
    method.attach(model)
    for p in model.parameters():
        p.data += 0.1
    penalty = method.penalty(model, make_batch(), None)["l2sp.distance"]
    gradients = torch.autograd.grad(penalty, list(model.parameters()), allow_unused=True)
    for (name, _), gradient in zip(model.named_parameters(), gradients):
        assert (gradient is not None) == (is_weight(name) and "stsb" not in name)


@pytest.mark.parametrize("name", ["query", "0", "heads", "layers", "bert"])
def test_another_task_may_have_the_name_of_a_part_of_the_model(name):
    """The penalty on a batch of RTE is the same, whatever the other task is called."""
    penalties = []
    for other in (name, "other"):
        model = make_model(TASKS["rte"], replace(TASKS["stsb"], name=other))
        method = build("l2sp+pal", ["pal.size=6", "pal.heads=2"])
        method.attach(model)
        for p in model.parameters():
            p.data += 0.1
        penalties.append(method.penalty(model, make_batch(), None)["l2sp.distance"].item())
    assert penalties[0] == pytest.approx(penalties[1], rel=1e-6)


def test_the_parameter_whose_length_has_no_effect_is_left_out():
    """R4F's head divides its parameter by its norm: a pull to zero would change nothing but the step size."""
    model = make_model()
    method = build("r4f+l2sp", ["l2sp.alpha=0", "l2sp.beta=1"])
    method.attach(model)
    assert method.parts["l2sp"].penalty(model, make_batch(), None)["distance"] == 0


def test_the_penalty_is_zero_at_the_start_with_a_zero_head():
    method, model = L2sp(), make_model()
    method.attach(model)
    for p in model.heads.parameters():
        p.data.zero_()
    assert method.penalty(model, make_batch(), None)["distance"] == 0.0
    assert all(start.data_ptr() not in {p.data_ptr() for p in model.parameters()} for start in method.starts)


def test_a_strong_penalty_holds_the_encoder_where_it_was():
    distances = []
    for alpha in (0.0, 1.0, 100.0):
        method = L2sp(alpha=alpha, beta=0.0)
        model, start = moved(method)
        optimizer = torch.optim.SGD(model.parameters(), lr=5e-3)
        for _ in range(300):
            optimizer.zero_grad()
            method.penalty(model, make_batch(), None)["distance"].backward()
            optimizer.step()
        pairs = [(p, start[name]) for name, p in model.named_parameters() if is_weight(name) and "heads" not in name]
        distances.append(sum((p - w).square().sum().item() for p, w in pairs) ** 0.5)
    assert distances[0] > 1 and 0.1 < distances[1] / distances[0] < 0.9 and distances[2] < 1e-6


def test_inserted_modules_are_pulled_to_zero_like_the_head():
    model, method = make_model(), build("pal+l2sp", ["pal.size=6", "pal.heads=2", "l2sp.alpha=0"])
    method.attach(model)
    penalty = method.penalty(model, make_batch(), None)["l2sp.distance"]
    gradients = torch.autograd.grad(penalty, list(model.parameters()), allow_unused=True)
    for (name, p), gradient in zip(model.named_parameters(), gradients):
        if is_weight(name) and ("heads" in name or is_inserted(name.removeprefix("bert."))):
            assert torch.allclose(gradient, 0.01 * p)
        else:
            assert gradient is None or not gradient.any()


def test_a_pooler_with_fresh_weights_is_pulled_to_zero_like_the_head():
    model, method = make_model(), L2sp(beta=0.07)
    model.bert.fresh_pooler = True
    method.attach(model)
    penalty = method.penalty(model, make_batch(), None)["distance"]
    (gradient,) = torch.autograd.grad(penalty, [model.bert.pooler.weight])
    assert torch.allclose(gradient, 0.07 * model.bert.pooler.weight)


@pytest.mark.parametrize("include", ["weights", "all"])
def test_weight_decay_is_off_for_all_that_the_penalty_covers(include):
    model, method = make_model(), L2sp(include=include)
    method.attach(model)
    decayed, _ = parameter_groups(model, 0.1, method.undecayed(model))
    assert decayed["params"] == []


def test_parameters_to_include_are_weights_or_all():
    with pytest.raises(InputError, match="--set l2sp: include must be one of weights, all, not some"):
        build("l2sp", ["l2sp.include=some"])


def test_parameters_that_layers_share_count_once():
    model, method = make_model(family="albert").double(), L2sp(alpha=2.0, beta=0.0, include="all")
    method.attach(model)
    for p in model.parameters():
        p.data += 0.1
    count = sum(p.numel() for p in {id(p): p for p in model.bert.parameters()}.values())
    assert method.penalty(model, make_batch(), None)["distance"].item() == pytest.approx(0.01 * count, rel=1e-6)

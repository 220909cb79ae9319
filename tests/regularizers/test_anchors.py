"""L2-SP and Mixout: closed forms, finite differences and limits."""

import copy

import pytest
import torch
from support.factories import make_batch, make_dataset, make_model

from minbert.data.tasks import TASKS
from minbert.dropout import Dropout
from minbert.errors import InputError
from minbert.optimizer import parameter_groups
from minbert.published import is_inserted
from regularizers import build
from regularizers.l2sp import L2sp
from regularizers.mixout import MixLinear, Mixout


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
def test_l2sp_gradient_is_alpha_times_the_distance_and_beta_times_the_head(include):
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


def test_l2sp_and_mixout_leave_inserted_modules_alone():
    """They have no pretrained value: L2-SP pulls them to zero like the head, Mixout does not mix them."""
    model, method = make_model(), build("pal+l2sp+mixout", ["pal.size=6", "pal.heads=2", "l2sp.alpha=0"])
    method.attach(model)
    penalty = method.penalty(model, make_batch(), None)["l2sp.distance"]
    gradients = torch.autograd.grad(penalty, list(model.parameters()), allow_unused=True)
    for (name, p), gradient in zip(model.named_parameters(), gradients):
        if is_weight(name) and ("heads" in name or is_inserted(name.removeprefix("bert."))):
            assert torch.allclose(gradient, 0.01 * p)
        else:
            assert gradient is None or not gradient.any()
    mixed = {name for name, module in model.bert.named_modules() if isinstance(module, MixLinear)}
    assert len(mixed) == 19 and not any(is_inserted(f"{name}.weight") for name in mixed)


def test_l2sp_leaves_the_modules_of_idle_tasks_alone():
    model, method = make_model(TASKS["rte"], TASKS["stsb"]), build("l2sp+pal", ["pal.size=6", "pal.heads=2"])
    method.attach(model)
    for p in model.parameters():
        p.data += 0.1
    penalty = method.penalty(model, make_batch(), None)["l2sp.distance"]
    gradients = torch.autograd.grad(penalty, list(model.parameters()), allow_unused=True)
    for (name, _), gradient in zip(model.named_parameters(), gradients):
        assert (gradient is not None) == (is_weight(name) and "stsb" not in name)


def test_a_pooler_that_was_missing_has_no_start():
    model = make_model()
    model.bert.fresh_pooler = True
    for option, pulled in (("l2sp", 0.01), ("mixout", None)):
        fresh = copy.deepcopy(model)
        method = build(option)
        method.attach(fresh)
        if pulled:
            penalty = method.penalty(fresh, make_batch(), None)["l2sp.distance"]
            (gradient,) = torch.autograd.grad(penalty, [fresh.bert.pooler.weight])
            assert torch.allclose(gradient, pulled * fresh.bert.pooler.weight)
        assert not isinstance(fresh.bert.pooler, MixLinear)


def test_l2sp_is_zero_at_the_start_with_a_zero_head():
    method, model = L2sp(), make_model()
    method.attach(model)
    for p in model.heads.parameters():
        p.data.zero_()
    assert method.penalty(model, make_batch(), None)["distance"] == 0.0
    assert all(start.data_ptr() not in {p.data_ptr() for p in model.parameters()} for start in method.starts)


def test_a_strong_l2sp_holds_the_encoder_where_it_was():
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


@pytest.mark.parametrize("option", ["l2sp", "mixout"])
def test_the_decay_to_zero_is_off_for_what_is_pulled_elsewhere(option):
    model, method = make_model(), build(option)
    method.attach(model)
    decayed, _ = parameter_groups(model, 0.1, method.undecayed(model))
    left = {id(p) for p in decayed["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in left}
    embeddings = {f"bert.embeddings.{kind}.weight" for kind in ("token", "position", "segment")}
    assert names == (set() if option == "l2sp" else {*embeddings, "heads.rte.weight"})


@pytest.fixture
def mixed():
    """A layer that has left its start, and its mixing module."""
    torch.manual_seed(0)
    linear = torch.nn.Linear(4, 3).double()

    def make(p: float, mask: str = "neuron") -> MixLinear:
        module = MixLinear(linear, p, mask).train()
        module.target = module.target + 0.5 * torch.randn(3, 4, dtype=torch.float64)
        return module

    return make


@pytest.mark.parametrize("mask", ["neuron", "element"])
def test_mixout_is_its_equation_entry_by_entry(mixed, mask):
    module, p = mixed(0.7, mask), 0.7
    torch.manual_seed(5)
    result = module.mixed()
    torch.manual_seed(5)
    m = (torch.rand(1 if mask == "neuron" else 3, 4, dtype=torch.float64) >= p).double()
    for i in range(3):
        for j in range(4):
            w, u, kept = module.weight[i, j].item(), module.target[i, j].item(), m[i % len(m), j].item()
            assert result[i, j].item() == pytest.approx((kept * w + (1 - kept) * u - p * u) / (1 - p), rel=1e-12)


def test_mixout_has_the_weight_as_its_mean(mixed):
    module = mixed(0.7)
    mean = torch.stack([module.mixed() for _ in range(20_000)]).mean(0)
    assert (mean - module.weight).abs().max() < 0.03
    module.target = module.weight.detach().clone()
    assert all(torch.equal(module.mixed(), module.weight) for _ in range(20))


def test_mixouts_gradient_by_finite_differences(mixed):
    """m/(1-p): ten times the authors' at p = 0.9."""
    module, x = mixed(0.9), torch.randn(6, 4, dtype=torch.float64)

    def kept(seed: int) -> int:
        torch.manual_seed(seed)
        return int((torch.rand(1, 4, dtype=torch.float64) >= 0.9).sum())

    seed = next(seed for seed in range(99) if 0 < kept(seed) < 4)

    def loss() -> torch.Tensor:
        torch.manual_seed(seed)
        return module(x).square().sum()

    (gradient,) = torch.autograd.grad(loss(), module.weight)
    assert 0 < gradient.any(0).sum() < 4
    for i in range(3):
        for j in range(4):
            before, sides = module.weight.data[i, j].item(), []
            for step in (1e-6, -1e-6):
                module.weight.data[i, j] = before + step
                sides.append(loss().item())
            module.weight.data[i, j] = before
            assert gradient[i, j].item() == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-6, abs=1e-5)


def test_mixout_towards_zero_is_dropout_of_the_input(mixed):
    module, x = mixed(0.5), torch.randn(6, 4, dtype=torch.float64)
    module.target = torch.zeros_like(module.target)
    torch.manual_seed(7)
    out = module(x)
    torch.manual_seed(7)
    dropped = x * (torch.rand(1, 4, dtype=torch.float64) >= 0.5) / 0.5
    assert torch.allclose(out, torch.nn.functional.linear(dropped, module.weight, module.bias), atol=1e-14)


def test_mixout_at_one_is_the_start_and_in_evaluation_the_plain_layer(mixed):
    module, x = mixed(1.0), torch.randn(6, 4, dtype=torch.float64)
    out = module(x)
    assert torch.equal(out, torch.nn.functional.linear(x, module.target, module.bias))
    assert not torch.autograd.grad(out.sum(), module.weight)[0].any()
    module.eval()
    assert torch.equal(module(x), torch.nn.functional.linear(x, module.weight, module.bias))


def test_what_mixout_replaces():
    model = make_model()
    before = dict(model.named_parameters())
    Mixout().attach(model)
    replaced = {name for name, module in model.named_modules() if isinstance(module, MixLinear)}
    linears = ("attention.query", "attention.key", "attention.value", "attention.output",
               "feed_forward.up", "feed_forward.down")  # fmt: skip
    assert replaced == {"bert.pooler"} | {f"bert.layers.{i}.{part}" for i in range(3) for part in linears}
    assert dict(model.named_parameters()) == before  # the same objects under the same names
    rates = {name: module.p for name, module in model.named_modules() if isinstance(module, Dropout)}
    assert rates.pop("dropout") == 0.1 and set(rates.values()) == {0.0}
    assert set(model.state_dict()) == set(make_model().state_dict())


def test_each_pass_mixes_anew_and_the_batch_shares_a_mixture():
    model = make_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    Mixout(p=0.5).attach(model)
    for p in model.bert.parameters():
        p.data += 0.1 * torch.randn_like(p)
    model.train()
    batch = make_dataset().collate([3, 3, 3])
    first, second = model(batch).logits, model(batch).logits
    assert torch.allclose(first[0], first[1], atol=1e-6) and not torch.allclose(first, second, atol=1e-3)


@pytest.mark.parametrize(
    "option, setting, message",
    [
        ("l2sp", "alpha=-1", "alpha must be a number from 0 up, not -1.0"),
        ("l2sp", "include=some", "include must be weights or all, not some"),
        ("mixout", "p=1.1", "p must lie from 0 to 1, not 1.1"),
        ("mixout", "p=nan", "p must lie from 0 to 1, not nan"),
        ("mixout", "mask=row", "mask must be neuron or element, not row"),
    ],
)
def test_bad_hyper_parameters(option, setting, message):
    with pytest.raises(InputError, match=f"--set {option}: {message}"):
        build(option, [f"{option}.{setting}"])

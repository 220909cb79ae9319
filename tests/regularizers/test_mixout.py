"""Mixout: its equation, finite differences, limits, and which layers it replaces."""

import pytest
import torch
from support.factories import make_dataset, make_model

from minbert.dropout import Dropout
from minbert.errors import InputError
from minbert.optimizer import parameter_groups
from minbert.published import is_inserted
from regularizers import build
from regularizers.mixout import MixLinear, Mixout


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
def test_the_mixture_is_its_equation_entry_by_entry(mixed, mask):
    module, p = mixed(0.7, mask), 0.7
    torch.manual_seed(5)
    result = module.mixed()
    torch.manual_seed(5)
    m = (torch.rand(1 if mask == "neuron" else 3, 4, dtype=torch.float64) >= p).double()
    for i in range(3):
        for j in range(4):
            w, u, kept = module.weight[i, j].item(), module.target[i, j].item(), m[i % len(m), j].item()
            assert result[i, j].item() == pytest.approx((kept * w + (1 - kept) * u - p * u) / (1 - p), rel=1e-12)


def test_the_mean_of_the_mixtures_is_the_weight(mixed):
    module = mixed(0.7)
    mean = torch.stack([module.mixed() for _ in range(20_000)]).mean(0)
    assert (mean - module.weight).abs().max() < 0.03
    module.target = module.weight.detach().clone()
    assert all(torch.equal(module.mixed(), module.weight) for _ in range(20))


def test_the_gradient_equals_finite_differences(mixed):
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


def test_a_mixture_with_zero_is_dropout_of_the_input(mixed):
    module, x = mixed(0.5), torch.randn(6, 4, dtype=torch.float64)
    module.target = torch.zeros_like(module.target)
    torch.manual_seed(7)
    out = module(x)
    torch.manual_seed(7)
    dropped = x * (torch.rand(1, 4, dtype=torch.float64) >= 0.5) / 0.5
    assert torch.allclose(out, torch.nn.functional.linear(dropped, module.weight, module.bias), atol=1e-14)


def test_at_p_1_the_mixture_is_the_start_and_in_evaluation_the_layer_is_plain(mixed):
    module, x = mixed(1.0), torch.randn(6, 4, dtype=torch.float64)
    out = module(x)
    assert torch.equal(out, torch.nn.functional.linear(x, module.target, module.bias))
    assert not torch.autograd.grad(out.sum(), module.weight)[0].any()
    module.eval()
    assert torch.equal(module(x), torch.nn.functional.linear(x, module.weight, module.bias))


def test_linear_layers_of_encoder_and_pooler_are_mixed_and_only_the_head_keeps_dropout():
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


def test_each_pass_draws_a_new_mixture_and_all_rows_share_it():
    model = make_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    Mixout(p=0.5).attach(model)
    for p in model.bert.parameters():
        p.data += 0.1 * torch.randn_like(p)
    model.train()
    batch = make_dataset().collate([3, 3, 3])
    first, second = model(batch).logits, model(batch).logits
    assert torch.allclose(first[0], first[1], atol=1e-6) and not torch.allclose(first, second, atol=1e-3)


def test_inserted_modules_are_not_mixed():
    model = make_model()
    build("pal+mixout", ["pal.size=6", "pal.heads=2"]).attach(model)
    mixed = {name for name, module in model.bert.named_modules() if isinstance(module, MixLinear)}
    assert len(mixed) == 19 and not any(is_inserted(f"{name}.weight") for name in mixed)


def test_a_pooler_with_fresh_weights_is_not_mixed():
    model = make_model()
    model.bert.fresh_pooler = True
    Mixout().attach(model)
    assert not isinstance(model.bert.pooler, MixLinear)


def test_weight_decay_is_off_for_mixed_weights():
    model, method = make_model(), Mixout()
    method.attach(model)
    decayed, _ = parameter_groups(model, 0.1, method.undecayed(model))
    left = {id(p) for p in decayed["params"]}
    names = {name for name, p in model.named_parameters() if id(p) in left}
    embeddings = {f"bert.embeddings.{kind}.weight" for kind in ("token", "position", "segment")}
    assert names == {*embeddings, "heads.rte.weight"}


@pytest.mark.parametrize(
    "setting, message",
    [
        ("p=1.1", "p must be from 0 to 1, not 1.1"),
        ("p=nan", "p must be from 0 to 1, not nan"),
        ("mask=row", "mask must be one of neuron, element, not row"),
    ],
)
def test_a_bad_setting_is_refused(setting, message):
    with pytest.raises(InputError, match=f"--set mixout: {message}"):
        build("mixout", [f"mixout.{setting}"])

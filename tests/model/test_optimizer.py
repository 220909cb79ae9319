"""AdamW against a slow loop, torch's AdamW and the course's reference; groups; the schedules."""

import math

import numpy as np
import pytest
import torch
from support.factories import make_model
from support.slow_adam import slow_adam
from torch import nn

from minbert.optimizer import AdamW, bias_correction, parameter_groups
from minbert.schedules import SCHEDULES


@pytest.mark.parametrize("correct", [True, False])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_adamw_equals_a_slow_loop(correct, decay):
    torch.manual_seed(0)
    start, grads = torch.randn(3, 5, dtype=torch.float64), torch.randn(20, 3, 5, dtype=torch.float64)
    p = nn.Parameter(start.clone())
    optimizer = AdamW([p], lr=0.1, betas=(0.8, 0.95), eps=0.05, weight_decay=decay, correct_bias=correct)
    for g in grads:
        p.grad = g.clone()
        optimizer.step()
    for i in range(3):
        for j in range(5):
            expected = slow_adam(start[i, j].item(), grads[:, i, j].tolist(), 0.1, 0.8, 0.95, 0.05, decay, correct)
            assert p[i, j].item() == pytest.approx(expected, abs=1e-12)


def test_adamw_ends_with_the_reference_weights_of_the_course():
    """The optimizer test of CS224N's minBERT: 1000 steps of regression, reference weights from its handout."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = nn.Linear(3, 2, bias=False)
    optimizer = AdamW(model.parameters(), lr=1e-3, weight_decay=1e-4)
    for _ in range(1000):
        optimizer.zero_grad()
        x = torch.FloatTensor(rng.uniform(size=[model.weight.shape[1]]))
        y = torch.Tensor([x[0] + x[1], -x[2]])
        ((y - model(x)) ** 2).sum().backward()
        optimizer.step()
    expected = torch.tensor([[0.5548, 0.8667, 0.0729], [-0.4472, -0.2951, -0.2717]])
    assert torch.allclose(model.weight, expected, atol=1e-4)


def run_both(eps: float, steps: int = 30):
    torch.manual_seed(0)
    ours, theirs = (nn.Parameter(torch.full((4, 3), 0.5, dtype=torch.float64)) for _ in range(2))
    a = AdamW([ours], lr=1e-2, eps=eps)
    b = torch.optim.AdamW([theirs], lr=1e-2, eps=eps, weight_decay=0.0)
    for _ in range(steps):
        g = torch.randn(4, 3, dtype=torch.float64)
        for p, optimizer in ((ours, a), (theirs, b)):
            p.grad = g.clone()
            optimizer.step()
    return (ours - theirs).abs().max().item()


def test_adamw_equals_that_of_torch_where_eps_does_not_matter():
    assert run_both(eps=1e-14) < 1e-12
    assert run_both(eps=1e-2) > 1e-4  # elsewhere the place of ε shows


@pytest.mark.parametrize("correct, expected", [(True, -1e-3), (False, -1e-3 * math.sqrt(10))])
def test_the_first_step_is_lr_and_root_10_times_that_without_correction(correct, expected):
    p = nn.Parameter(torch.zeros(2, dtype=torch.float64))
    p.grad = torch.ones(2, dtype=torch.float64)
    AdamW([p], lr=1e-3, eps=0, correct_bias=correct).step()
    assert p[0].item() == pytest.approx(expected, rel=1e-12)


def test_eps_is_added_before_the_correction():
    p = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    p.grad = torch.ones(1, dtype=torch.float64)
    AdamW([p], lr=1.0, eps=1.0).step()
    c, m, v = math.sqrt(0.001) / 0.1, 0.1, 0.001
    assert p.item() == pytest.approx(-c * m / (math.sqrt(v) + 1), rel=1e-12)  # torch: -1/(1+1)


def test_decay_follows_the_step_and_is_not_corrected():
    p = nn.Parameter(torch.tensor([2.0], dtype=torch.float64))
    p.grad = torch.ones(1, dtype=torch.float64)
    AdamW([p], lr=0.1, eps=0, weight_decay=0.5).step()
    assert p.item() == pytest.approx((2.0 - 0.1) * (1 - 0.1 * 0.5), rel=1e-12)


def test_the_correction_has_the_values_of_the_formula():
    values = {1: 0.316, 2: 0.235, 12: 0.152, 100: 0.309, 500: 0.627, 1000: 0.795, 2000: 0.930, 3000: 0.975}
    for t, expected in values.items():
        assert bias_correction(t, 0.9, 0.999) == pytest.approx(expected, abs=6e-4)


def test_steps_without_the_correction_are_too_long_for_1750_steps():
    excess = {t: 1 / bias_correction(t, 0.9, 0.999) - 1 for t in range(1, 3001)}
    assert excess[1] == pytest.approx(math.sqrt(10) - 1) and excess[1000] == pytest.approx(0.258, abs=5e-4)
    assert max(excess, key=excess.get) == 12 and excess[12] == pytest.approx(5.569, abs=5e-4)
    assert [t for t in excess if excess[t] > 0.1] == list(range(1, 1751))


def test_updates_of_all_parameters_at_once_and_one_by_one_are_equal():
    torch.manual_seed(0)
    shapes = [(3, 5), (7,), (2, 3, 2)]
    lists = [[nn.Parameter(torch.ones(shape)) for shape in shapes] for _ in range(2)]
    for params, together in zip(lists, (True, False)):
        torch.manual_seed(1)
        optimizer = AdamW(params, lr=0.1, weight_decay=0.1)
        options = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
        for step in range(3):
            for p in params:
                p.grad = torch.randn(p.shape)
            trained = params[: step + 1]  # the others have no gradient, so the counts of the steps differ
            with torch.no_grad():
                for chunk in [trained] if together else [[p] for p in trained]:
                    optimizer.update(chunk, **options)
    assert all(torch.equal(a, b) for a, b in zip(*lists))


def test_each_parameter_counts_its_own_steps():
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = AdamW([a, b], lr=1.0, eps=0)
    a.grad = torch.ones(1)
    optimizer.step()
    optimizer.step()
    assert b.item() == 0 and not optimizer.state[b]
    b.grad = torch.ones(1)
    optimizer.step()
    assert (optimizer.state[a]["step"], optimizer.state[b]["step"]) == (3, 1)
    assert b.item() == pytest.approx(-1.0)


@pytest.mark.parametrize(
    "setting",
    [{"betas": (1.0, 0.9)}, {"betas": (0.9, 1.0)}, {"betas": (-0.1, 0.9)}, {"betas": (0.9, -0.1)}]
    + [{name: -1e-9} for name in ("lr", "eps", "weight_decay")],
)
def test_adamw_refuses_settings_out_of_range(setting):
    with pytest.raises(ValueError, match="betas lie in"):
        AdamW([nn.Parameter(torch.zeros(1))], **setting)
    with pytest.raises(ValueError, match="betas lie in"):  # of one group
        AdamW([{"params": [nn.Parameter(torch.zeros(1))]}, {"params": [nn.Parameter(torch.ones(1))], **setting}])


def test_adamw_takes_settings_at_the_edge():
    AdamW([nn.Parameter(torch.zeros(1))], lr=0.0, betas=(0.0, 0.0), eps=0.0, weight_decay=0.0)


def test_every_parameter_is_in_one_group_and_no_bias_or_layernorm_is_decayed():
    model = make_model()
    extra = model.bert.layers[0].attention.query.weight
    decayed, plain = parameter_groups(model, 0.01, undecayed=[extra])
    names = {id(p): name for name, p in model.named_parameters()}
    sets = [{names[id(p)] for p in group["params"]} for group in (decayed, plain)]
    assert sets[0] | sets[1] == set(names.values()) and not sets[0] & sets[1]
    assert (decayed["weight_decay"], plain["weight_decay"]) == (0.01, 0.0)
    assert sets[1] == {name for name in names.values() if name.endswith("bias") or "norm" in name} | {
        "bert.layers.0.attention.query.weight"
    }
    model.bert.requires_grad_(False)
    assert sum(len(group["params"]) for group in parameter_groups(model, 0.01)) == 2


@pytest.mark.parametrize(
    "name, step, expected",
    [
        ("linear", 0, 0.0), ("linear", 5, 0.5), ("linear", 10, 1.0), ("linear", 55, 0.5), ("linear", 100, 0.0),
        ("slanted", 0, 1 / 32), ("slanted", 5, (1 + 0.5 * 31) / 32), ("slanted", 10, 1.0), ("slanted", 100, 1 / 32),
        ("constant", 0, 1.0), ("constant", 99, 1.0),
    ],
)  # fmt: skip
def test_schedules_have_the_values_of_their_formulas(name, step, expected):
    assert SCHEDULES[name](step, total=100, warmup=0.1) == pytest.approx(expected)


@pytest.mark.parametrize("warmup", [0.0, 0.05, 0.1])
def test_a_slanted_triangle_with_one_step_of_warm_up_is_at_its_peak_after_that_step(warmup):
    """One step is the least: equation 3 divides by the number of these steps."""
    rates = [SCHEDULES["slanted"](step, total=11, warmup=warmup) for step in range(12)]
    assert rates == pytest.approx([1 / 32, *(1 / 32 + 31 / 32 * (10 - i) / 10 for i in range(11))])


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 7])
def test_schedules_stay_between_0_and_1_for_short_runs(name, total):
    for warmup in (0.0, 0.1, 0.9):
        assert all(0 <= SCHEDULES[name](step, total, warmup) <= 1 for step in range(total + 1))


def howard_and_ruder(t: int, total: int, cut_fraction: float) -> float:
    """Equation 3 of ULMFiT, as a share of the largest rate."""
    cut = math.floor(total * cut_fraction)
    p = t / cut if t < cut else 1 - (t - cut) / (cut * (1 / cut_fraction - 1))
    return (1 + p * (32 - 1)) / 32


@pytest.mark.parametrize("total, warmup", [(100, 0.1), (16, 0.25), (8, 0.5), (4, 0.25), (10, 0.1)])
def test_the_slanted_triangle_is_the_published_formula_where_the_warmup_is_a_whole_number_of_steps(total, warmup):
    for step in range(total + 1):
        expected = howard_and_ruder(step, total, warmup)
        assert SCHEDULES["slanted"](step, total, warmup) == pytest.approx(expected, abs=1e-12)


def test_elsewhere_the_published_triangle_falls_below_0_and_ours_ends_at_a_32nd():
    assert howard_and_ruder(19, 19, 0.1) < 0
    rates = [SCHEDULES["slanted"](step, 19, 0.1) for step in range(20)]
    assert rates[:2] == [1 / 32, 1.0] and rates[-1] == pytest.approx(1 / 32)
    assert rates[1:] == sorted(set(rates[1:]), reverse=True)


def test_the_warm_up_of_linear_is_rounded_down():
    """1.9 steps are one step, as int() has it in BERT's code."""
    rates = [SCHEDULES["linear"](step, total=19, warmup=0.1) for step in (0, 1, 2)]
    assert rates == [0.0, 1.0, pytest.approx(17 / 18)]

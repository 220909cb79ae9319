"""Estimators of mutual information against closed forms and slow loops."""

import math

import pytest
import torch
from support.information import wild

from regularizers import first_stage
from regularizers.estimators import Estimators, adam, bound


def gaussians(rho: float, number: int, seed: int) -> torch.Tensor:
    """[N,2,1] with information -log(1-ρ²)/2, moved and stretched."""
    generator = torch.Generator().manual_seed(seed)
    x, noise = torch.randn(2, number, 1, generator=generator)
    return torch.stack([x, rho * x + math.sqrt(1 - rho**2) * noise], 1)


@pytest.mark.parametrize(
    "rho, marginals", [(0.0, "all_pairs"), (0.5, "all_pairs"), (0.9, "all_pairs"), (0.9, "permute")]
)
def test_the_estimate_of_gaussians_is_their_known_information(rho, marginals, monkeypatch):
    monkeypatch.setattr(first_stage, "STEPS", 600)
    monkeypatch.setattr(first_stage, "EVERY", 100)
    torch.manual_seed(0)
    estimators = Estimators([(0, 1)], 2, 1, None, 16, marginals)
    first_stage.fit(estimators, [list(gaussians(rho, 12_800, seed=1).split(64))], adam(estimators, 1e-2))
    found = first_stage.measure(estimators, gaussians(rho, 40_000, seed=2).split(400)).item()
    truth = -math.log(1 - rho**2) / 2
    assert abs(found - truth) < (0.05 * truth if rho else 0.03), (found, truth)


def slow_score(estimators, pair: int, a: torch.Tensor, c: torch.Tensor) -> float:
    """G of one pair of projected vectors, unit by unit."""
    total = 0.0
    for k in range(6):
        unit = estimators.b[pair, 0, k].item()
        unit += sum(a[d].item() * estimators.w_x[pair, d, k].item() for d in range(4))
        unit += sum(c[d].item() * estimators.w_y[pair, d, k].item() for d in range(4))
        total += estimators.w_2[pair, k, 0].item() * max(0.0, unit)
    return total


def test_scores_and_bound_equal_a_slow_loop():
    estimators, states = wild()
    z = [[] for _ in range(9)]
    for i in range(9):
        for v in range(3):
            standard = [(states[i, v, d] - estimators.mean[v, d]) / estimators.std[v, d] for d in range(5)]
            projected = [sum(standard[d] * estimators.directions[d, q] for d in range(5)) for q in range(4)]
            z[i].append(torch.tensor([math.asinh(value) for value in projected], dtype=torch.float64))
    joint, scores = estimators.scores(estimators.project(states))
    assert torch.allclose(estimators.directions.T @ estimators.directions, torch.eye(4, dtype=torch.float64), atol=1e-6)
    for pair, (left, right) in enumerate([(0, 1), (0, 2)]):
        slow = [[slow_score(estimators, pair, z[i][left], z[j][right]) for j in range(9)] for i in range(9)]
        assert torch.allclose(scores[pair], torch.tensor(slow, dtype=torch.float64), rtol=1e-10)
        value = sum(slow[i][i] for i in range(9)) / 9
        value -= math.log(sum(math.exp(g) for row in slow for g in row) / 81)
        assert estimators(states)[pair].item() == pytest.approx(value, rel=1e-9)
    assert torch.equal(joint, scores.diagonal(dim1=1, dim2=2))


def test_fresh_weights_are_drawn_as_those_of_a_linear_layer_of_x_and_y_together():
    """Uniform up to 1/√(number of inputs): 2q of the first layer, also of its bias, H of the second."""
    torch.manual_seed(0)
    estimators = Estimators([(0, 1), (0, 2), (1, 2)], 3, 5, 4, 3000, "all_pairs")
    for name, inputs in (("w_x", 2 * 4), ("w_y", 2 * 4), ("b", 2 * 4), ("w_2", 3000)):
        weights = getattr(estimators, name)
        assert weights.abs().max().item() == pytest.approx(inputs**-0.5, rel=0.01)
        assert weights.std().item() == pytest.approx((3 * inputs) ** -0.5, rel=0.03) and not weights.requires_grad


def test_permuted_marginals_are_pairs_of_the_batch():
    """The x in order, and each y once, all pairs of variables shuffled alike."""
    estimators, states = wild("permute")
    z = estimators.project(states)
    torch.manual_seed(3)
    joint, marginal = estimators.scores(z)
    torch.manual_seed(3)
    order = torch.randperm(9)
    assert (order != torch.arange(9)).any()
    estimators.marginals = "all_pairs"
    own, scores = estimators.scores(z)
    assert torch.allclose(joint, own) and torch.allclose(marginal, scores[:, torch.arange(9), order])


def test_with_all_pairs_no_network_gets_above_log_b():
    for seed in range(20):
        for scale in (1.0, 5.0, 100.0):
            estimators, states = wild(seed=seed, scale=scale)
            assert (estimators(states) <= math.log(9) + 1e-9).all()
    peak = 50 * torch.eye(9, dtype=torch.float64).unsqueeze(0)
    assert bound(peak.diagonal(dim1=1, dim2=2), peak).item() == pytest.approx(math.log(9))


def test_adding_a_constant_to_all_scores_changes_nothing_even_if_it_is_large():
    joint, scores = torch.randn(2, 9).double(), torch.randn(2, 9, 9).double()
    for constant in (3.0, -700.0, 5000.0):
        assert torch.allclose(bound(joint + constant, scores + constant), bound(joint, scores))


def test_bf16_states_are_estimated_in_float32():
    estimators, states = wild()
    estimators.float()
    with torch.autocast("cpu", torch.bfloat16):
        inside = estimators(states.bfloat16())
    assert inside.dtype == torch.float32 and torch.equal(inside, estimators(states.bfloat16().float()))


def test_the_ascent_follows_the_corrected_gradient():
    """In the first step of a fresh Adam only signs count. So this test looks at the gradient that Adam was given."""
    estimators, states = wild()
    z, seen = estimators.project(states), []
    estimators.log_ema.fill_(0.7)

    class Spy:
        def step(self):
            seen.extend(p.grad for p in estimators.parameters())

        def zero_grad(self):
            pass

    estimators.ascend(z, Spy())
    ema = math.log(0.99 * math.exp(0.7)) + torch.zeros(2).double()
    _, scores = estimators.scores(z)
    ema = (ema.exp() + 0.01 * scores.exp().mean((1, 2))).log()
    assert torch.allclose(estimators.log_ema, ema)
    estimators.requires_grad_(True)
    joint, scores = estimators.scores(z)
    value = joint.mean(1) - (scores - ema[:, None, None]).exp().mean((1, 2))
    expected = torch.autograd.grad(-value.sum(), list(estimators.parameters()))
    assert all(torch.allclose(a, b) for a, b in zip(seen, expected, strict=True))


def test_the_ascent_raises_the_bound():
    estimators, states = wild()
    z, optimizer = estimators.project(states), adam(estimators, 1e-3)
    values = []
    for _ in range(20):
        values.append(estimators.estimate(z))
        estimators.ascend(z, optimizer)
    assert (values[-1] > values[0]).all()

"""Each loss against a slow loop in plain Python, its gradient, and its precision."""

import math

import pytest
import torch

from minbert import losses

Z1 = torch.tensor([[0.3, -1.2, 2.0], [1.0, 0.1, -0.4]], dtype=torch.float64)
Z2 = torch.tensor([[0.1, -1.0, 1.5], [-1.0, 0.3, 0.2]], dtype=torch.float64)


def softmax(row):
    total = sum(math.exp(z) for z in row)
    return [math.exp(z) / total for z in row]


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def kl(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q))


def test_task_losses_equal_a_slow_loop():
    labels = [2, 0]
    expected = -sum(math.log(softmax(z)[y]) for z, y in zip(Z1.tolist(), labels)) / 2
    assert losses.cross_entropy(Z1, torch.tensor(labels)).item() == pytest.approx(expected, abs=1e-12)
    z, y = Z1[:, :1], torch.tensor([4.0, 1.0])
    assert losses.mean_squared_error(z, y).item() == pytest.approx(((0.3 - 4) ** 2 + 0) / 2, abs=1e-12)
    expected = -(math.log(sigmoid(0.3)) + math.log(1 - sigmoid(1.0))) / 2
    assert losses.binary_cross_entropy(z, torch.tensor([1, 0])).item() == pytest.approx(expected, abs=1e-12)


def test_divergences_equal_a_slow_loop():
    rows = [(softmax(a), softmax(b)) for a, b in zip(Z1.tolist(), Z2.tolist())]
    expected = sum(kl(p, q) + kl(q, p) for p, q in rows) / 2
    assert losses.symmetric_kl(Z1, Z2).item() == pytest.approx(expected, abs=1e-12)
    pairs = [(sigmoid(a), sigmoid(b)) for a, b in zip(Z1[:, 0].tolist(), Z2[:, 0].tolist())]
    expected = sum(kl((p, 1 - p), (q, 1 - q)) + kl((q, 1 - q), (p, 1 - p)) for p, q in pairs) / 2
    assert losses.bernoulli_kl(Z1[:, :1], Z2[:, :1]).item() == pytest.approx(expected, abs=1e-12)
    assert losses.squared_error(Z1[:, :1], Z2[:, :1]).item() == pytest.approx((0.2**2 + 2.0**2) / 2, abs=1e-12)


@pytest.mark.parametrize("divergence", [losses.symmetric_kl, losses.bernoulli_kl, losses.squared_error])
def test_divergences_are_symmetric_with_the_full_gradient_on_both_sides(divergence):
    a, b = (
        z[:, :1].clone().requires_grad_() if divergence is not losses.symmetric_kl else z.clone().requires_grad_()
        for z in (Z1, Z2)
    )
    assert torch.autograd.gradcheck(divergence, (a, b))
    assert divergence(a, a).item() == 0
    assert divergence(a, b).item() == pytest.approx(divergence(b, a).item())


def test_a_tiny_divergence_keeps_its_value_in_float32():
    """One-way KL of logits this close is rounding noise, often negative."""
    z = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    near = z + 1e-5 * torch.randn(50, 3, generator=torch.Generator().manual_seed(1))
    exact = losses.symmetric_kl(z.double(), near.double())
    assert losses.symmetric_kl(z, near).item() == pytest.approx(exact.item(), rel=0.02)


@pytest.mark.parametrize(
    "name", "cross_entropy binary_cross_entropy mean_squared_error symmetric_kl bernoulli_kl squared_error".split()
)
def test_losses_of_half_precision_logits_are_computed_in_float32(name):
    """With the labels as they are: 4.2 has no bfloat16."""
    labels = {"cross_entropy": [2, 0], "binary_cross_entropy": [1.0, 0.0], "mean_squared_error": [4.2, 0.1]}
    z = (Z1 if name in ("cross_entropy", "symmetric_kl") else Z1[:, :1]).to(torch.bfloat16)
    other = torch.tensor(labels[name]) if name in labels else Z2[:, : z.shape[1]].to(torch.bfloat16)
    value = getattr(losses, name)(z, other)
    exact = getattr(losses, name)(z.double(), other.double() if other.is_floating_point() else other)
    assert value.dtype == torch.float32 and value.item() == pytest.approx(exact.item(), rel=1e-6)

"""The 16-bit masks: right share, right scale, independent of their neighbours, and gone in evaluation."""

import pytest
import torch

from minbert.dropout import Dropout


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_the_kept_share_is_1_minus_p_and_kept_elements_are_divided_by_it(p):
    torch.manual_seed(0)
    out = Dropout(p)(torch.ones(1001, 999))
    kept = (out != 0).double().mean().item()
    assert abs(kept - (1 - p)) < 5 * (p * (1 - p) / out.numel()) ** 0.5
    assert torch.allclose(out[out != 0], torch.tensor(1 / (1 - p)), rtol=1e-3)
    assert abs(out.double().mean() - 1) < 5 * (p / (1 - p) / out.numel()) ** 0.5  # five standard errors


def test_neighbouring_elements_are_independent():
    """Four elements share one 64-bit draw: no two of them may be correlated."""
    torch.manual_seed(0)
    mask = (Dropout(0.5)(torch.ones(400_000)) != 0).double().reshape(-1, 4)
    correlation = torch.corrcoef(mask.T) - torch.eye(4)
    assert correlation.abs().max() < 5 / len(mask) ** 0.5


def test_the_gradient_has_the_mask_of_the_output():
    x = torch.ones(3, 5, requires_grad=True)
    out = Dropout(0.3)(x)
    out.sum().backward()
    assert torch.equal(x.grad, out.detach())


@pytest.mark.parametrize("p, kept", [(1e-6, 1.0), (0.999999, 0.0)])
def test_probabilities_near_0_and_1_keep_all_or_nothing(p, kept):
    assert ((Dropout(p)(torch.ones(1000)) != 0).double().mean() - kept).abs() < 0.01


def test_dropout_is_off_in_evaluation_and_draws_nothing_at_zero():
    x = torch.randn(3, 5)
    assert torch.equal(Dropout(0.4).eval()(x), x)
    state = torch.get_rng_state()
    assert torch.equal(Dropout(0.0)(x), x)
    assert torch.equal(state, torch.get_rng_state())  # at 0 nothing is drawn
    assert torch.equal(Dropout(1.0)(x), torch.zeros(3, 5))

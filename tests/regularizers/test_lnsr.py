"""LNSR: its equation as a slow loop, a closed form, limits, and its gradient."""

import pytest
import torch
from support.factories import make_model
from support.method_inputs import clean_pass, penalty_value

from minbert.bert import expand_attention_mask
from minbert.errors import InputError
from regularizers import build
from regularizers.lnsr import Lnsr
from regularizers.perturbation import scaled_noise


@pytest.mark.parametrize("reduction", ["token", "sum"])
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_the_penalty_equals_a_slow_loop(layer, reduction):
    model, batch, clean = clean_pass(0.0)
    method = Lnsr(layer=layer, sigma=0.3, weight=0.7, reduction=reduction)
    torch.manual_seed(2)
    noise = torch.randn(5, 7, 12, dtype=torch.float64)
    total = 0.0
    for row in range(5):
        real = int(batch.attention_mask[row].sum())
        x = clean.hidden[layer - 1][row, :real]
        h, h0, everyone = x + 0.3 * noise[row, :real], x, torch.ones(1, 1, 1, real, dtype=torch.bool)
        for block in model.bert.layers[layer - 1 :]:
            h, h0 = block(h[None], everyone)[0], block(h0[None], everyone)[0]
            squares = [sum((h[t, d] - h0[t, d]).item() ** 2 for d in range(12)) for t in range(real)]
            total += sum(squares) / (real if reduction == "token" else 1)
    assert penalty_value(method, model, batch, clean).item() == pytest.approx(0.7 * total / 5, rel=1e-12)


def test_on_a_linear_layer_the_mean_penalty_is_sigma_squared_times_the_squared_frobenius_norm():
    model, batch, _ = clean_pass(0.0)
    weight = torch.randn(12, 12, dtype=torch.float64)
    model.bert.layers = torch.nn.ModuleList([Linear(weight)])
    clean = model(batch)
    method = Lnsr(sigma=0.1)
    mean = torch.stack([penalty_value(method, model, batch, clean, seed) for seed in range(400)]).mean()
    assert mean.item() == pytest.approx(0.01 * weight.square().sum().item(), rel=0.03)


class Linear(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, h, mask, task=None):
        return h @ self.weight.T


def test_the_penalty_is_zero_without_noise_and_grows_as_the_square_of_sigma():
    model, batch, clean = clean_pass(0.1)
    for layer in (1, 2, 3):  # exactly: the masks are those of the clean pass
        assert penalty_value(Lnsr(sigma=0.0, layer=layer), model, batch, clean) == 0.0
    small, double = (penalty_value(Lnsr(sigma=s), model, batch, clean) for s in (1e-4, 2e-4))
    assert (double / small).item() == pytest.approx(4, rel=0.01)
    assert penalty_value(Lnsr(sigma=0.0, dropout="independent"), model, batch, clean) > 0.1
    assert penalty_value(Lnsr(sigma=0.0, dropout="off"), model, batch, clean) == 0.0
    off = penalty_value(Lnsr(sigma=0.1, dropout="off"), model, batch, clean)
    model.eval()
    assert off == penalty_value(Lnsr(sigma=0.1), model, batch, model(batch))


@pytest.mark.parametrize("noise", ["absolute", "relative"])
def test_only_the_layers_from_b_run_again_and_both_sides_have_a_gradient(noise):
    """The size of the noise has no gradient."""
    method = Lnsr(layer=3, noise=noise, **{"sigma" if noise == "absolute" else "relative": 0.5})
    model, batch, clean = clean_pass(0.0)
    calls = []
    for number, block in enumerate(model.bert.layers, start=1):
        block.register_forward_hook(lambda *_, n=number: calls.append(n))
    penalty = penalty_value(method, model, batch, clean)
    assert calls == [3]
    x = clean.hidden[2]
    (gradient,) = torch.autograd.grad(penalty, x, retain_graph=True)
    h = x.detach().requires_grad_()
    torch.manual_seed(2)
    z = scaled_noise(h.detach(), batch.attention_mask, noise, 0.5, 0.5)
    noisy = model.bert.layers[2](h + z, expand_attention_mask(batch.attention_mask))
    plain = model.bert.layers[2](h, expand_attention_mask(batch.attention_mask))
    real = batch.attention_mask
    by_hand = (((noisy - plain).square().sum(-1) * real).sum(-1) / real.sum(-1)).mean()
    assert torch.allclose(gradient, torch.autograd.grad(by_hand, h)[0], atol=1e-12)


def test_independent_masks_are_new_only_from_the_perturbed_layer_on():
    """Below it the noisy pass has the states of the clean pass: without noise, the input of that layer is the same."""
    model, batch, clean = clean_pass(0.1)
    inputs = []
    for block in model.bert.layers:
        block.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    assert penalty_value(Lnsr(layer=2, sigma=0.0, dropout="independent"), model, batch, clean) > 0.1
    assert len(inputs) == 2 and torch.equal(inputs[0], clean.hidden[1])
    assert not torch.equal(inputs[1], clean.hidden[2])


@pytest.mark.parametrize(
    "setting, message",
    [
        ("relative=0.1", "relative is the size of relative noise: set noise=relative, too"),
        ("noise=loud", "noise must be one of absolute, relative, not loud"),
        ("reduction=mean", "reduction must be one of token, sum, not mean"),
        ("dropout=on", "dropout must be one of shared, independent, off, not on"),
    ],
)
def test_a_word_that_is_no_choice_is_refused(setting, message):
    with pytest.raises(InputError, match=f"--set lnsr: {message}"):
        build("lnsr", [f"lnsr.{setting}"])


@pytest.mark.parametrize("layer", [0, 4])
def test_a_layer_that_the_model_does_not_have_is_refused(layer):
    with pytest.raises(InputError, match=f"--option lnsr: layer must be from 1 to 3, the model's layers, not {layer}"):
        build("lnsr", [f"lnsr.layer={layer}"]).attach(make_model())

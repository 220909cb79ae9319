"""The shared home of perturbed passes: the noise, the dropout masks, and where a pass can start."""

import pytest
import torch
from support.method_inputs import clean_pass

from regularizers.perturbation import (
    DROPOUT_MODES,
    draw_noise,
    reference,
    scaled_noise,
    second_pass,
    second_pass_from_layer,
    second_pass_from_words,
    without_dropout,
)


@pytest.mark.parametrize("kind, variance", [("uniform", 1 / 3), ("normal", 1.0)])
def test_noise_has_mean_zero_the_variance_of_its_kind_and_none_on_padding(kind, variance):
    torch.manual_seed(0)
    real = torch.arange(100) < torch.arange(40, 140, 5)[:, None]  # (20,100)
    noise = draw_noise(torch.empty(20, 100, 500), real, kind)
    assert not noise[~real].any()
    assert noise[real].mean().abs() < 5e-3 and noise[real].var().item() == pytest.approx(variance, rel=0.01)
    assert (noise.abs().max() <= 1) == (kind == "uniform")


def test_absolute_noise_has_entries_of_one_standard_deviation_for_tokens_of_every_length():
    x = torch.linspace(0.1, 7.0, 40).view(2, 20, 1) * torch.ones(2, 20, 500)
    real = torch.arange(20) < torch.tensor([[20], [13]])
    noise = scaled_noise(x, real, "absolute", sigma=0.3, relative=9.0)
    assert noise[real].std().item() == pytest.approx(0.3, rel=0.02) and not noise[~real].any()
    assert noise[0, 0].std().item() == pytest.approx(noise[0, 19].std().item(), rel=0.2)


def test_relative_noise_is_a_share_of_the_length_of_each_token_and_its_size_has_no_gradient():
    _, batch, clean = clean_pass()
    x, real = clean.hidden[0].detach().requires_grad_(), batch.attention_mask
    noise = scaled_noise(x, real, "relative", sigma=9.0, relative=0.3)
    assert torch.allclose(noise.norm(dim=-1)[real], 0.3 * x.norm(dim=-1)[real], rtol=1e-12)
    assert not noise[~real].any() and not noise.requires_grad


def test_a_second_pass_with_shared_masks_repeats_the_clean_pass_from_every_start():
    model, batch, clean = clean_pass(0.1)
    torch.manual_seed(5)
    nothing = torch.zeros_like(clean.hidden[0])
    assert torch.equal(second_pass(model, batch, clean.hidden[0], clean, "shared"), clean.logits)
    assert torch.equal(second_pass_from_words(model, batch, nothing, clean, "shared"), clean.logits)
    for start in range(3):
        hidden = second_pass_from_layer(model, batch, clean.hidden[start], start, clean, "shared")
        assert len(hidden) == 3 - start
        assert all(torch.equal(h, h0) for h, h0 in zip(hidden, clean.hidden[start + 1 :], strict=True))


def test_a_second_pass_with_independent_masks_differs_from_the_clean_pass_and_from_the_next():
    model, batch, clean = clean_pass(0.1)
    first, second = (second_pass(model, batch, clean.hidden[0], clean, "independent") for _ in range(2))
    assert (first - clean.logits).abs().max() > 1e-3 and (first - second).abs().max() > 1e-3


def test_a_second_pass_without_dropout_equals_its_reference_without_dropout():
    model, batch, clean = clean_pass(0.1)
    plain = reference(model, batch, clean, "off")
    assert torch.equal(second_pass(model, batch, plain.hidden[0], clean, "off"), plain.logits)
    assert (plain.logits - clean.logits).abs().max() > 1e-3
    assert torch.equal(plain.logits, model.eval()(batch).logits)


@pytest.mark.parametrize("dropout", [name for name in DROPOUT_MODES if name != "off"])
def test_the_reference_of_a_pass_with_dropout_is_the_clean_pass_itself(dropout):
    model, batch, clean = clean_pass(0.1)
    assert reference(model, batch, clean, dropout) is clean


def test_a_second_pass_with_shared_masks_leaves_the_generator_where_it_was():
    model, batch, clean = clean_pass(0.1)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    second_pass(model, batch, clean.hidden[0], clean, "shared")
    assert torch.equal(torch.rand(3), expected)


def test_without_dropout_each_module_gets_its_own_mode_back_even_after_an_error():
    model, *_ = clean_pass(0.1)
    model.bert.layers[1].eval()  # as a teacher inside a method is
    modes = [module.training for module in model.modules()]
    with pytest.raises(ZeroDivisionError), without_dropout(model):
        assert not any(module.training for module in model.modules())
        1 / 0  # noqa: B018
    assert [module.training for module in model.modules()] == modes

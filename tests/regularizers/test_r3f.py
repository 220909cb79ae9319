"""R3F and R4F: the divergence from a pass with noise, and the singular value of the head."""

import pytest
import torch
from support.factories import KINDS, make_model
from support.method_inputs import clean_pass, penalty_value

from minbert.bert import expand_attention_mask
from minbert.classifier import features
from minbert.errors import InputError
from minbert.losses import symmetric_kl
from minbert.optimizer import parameter_groups
from regularizers import build
from regularizers.r3f import R3f, R4f, SpectralLinear


@pytest.mark.parametrize("noise", ["uniform", "normal"])
@pytest.mark.parametrize("at", ["word", "embedding"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_penalty_is_the_divergence_from_a_pass_with_noise(kind, at, noise):
    model, batch, clean = clean_pass(0.0, kind)
    penalty = penalty_value(R3f(eps=0.2, weight=0.7, at=at, noise=noise), model, batch, clean)
    torch.manual_seed(2)
    shape = {"size": (*batch.input_ids.shape, 12), "dtype": torch.float64}
    z = 0.2 * (2 * torch.rand(**shape) - 1 if noise == "uniform" else torch.randn(**shape))
    z = z * batch.attention_mask[..., None]
    table = model.bert.embeddings
    if at == "word":
        words = table.token(batch.input_ids) + z
        h = table.norm(words + table.position.weight[:7] + table.segment(batch.token_type_ids))
    else:
        h = clean.hidden[0] + z
    for block in model.bert.layers:
        h = block(h, expand_attention_mask(batch.attention_mask))
    noisy = model.heads[batch.task.name](features(torch.tanh(model.bert.pooler(h[:, 0])), batch.task))
    assert torch.allclose(penalty, 0.7 * batch.task.divergence(clean.logits, noisy), rtol=1e-12)
    assert penalty > 0


@pytest.mark.parametrize("at", ["word", "embedding"])
def test_without_noise_the_penalty_is_zero_because_the_masks_are_repeated(at):
    model, batch, clean = clean_pass(0.1)
    assert penalty_value(R3f(eps=0.0, at=at), model, batch, clean) == 0.0
    assert penalty_value(R3f(eps=0.0, at=at, dropout="independent"), model, batch, clean) > 1e-6
    assert penalty_value(R3f(eps=0.0, at=at, dropout="off"), model, batch, clean) == 0.0


def test_the_gradient_reaches_the_embedding_table_through_both_passes():
    model, batch, clean = clean_pass(0.0)
    penalty = penalty_value(R3f(eps=0.2), model, batch, clean)
    table = model.bert.embeddings.token.weight
    (whole,) = torch.autograd.grad(penalty, table, retain_graph=True)
    torch.manual_seed(2)
    z = 0.2 * (2 * torch.rand(5, 7, 12, dtype=torch.float64) - 1) * batch.attention_mask[..., None]
    noisy = model.head(model.encode(model.embed(batch, z), batch)[-1], batch)
    (one,) = torch.autograd.grad(symmetric_kl(clean.logits.detach(), noisy), table)
    (other,) = torch.autograd.grad(symmetric_kl(model(batch).logits, noisy.detach()), table)
    assert torch.allclose(whole, one + other, atol=1e-12) and one.norm() > 0.1 * whole.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_r4f_holds_the_largest_singular_value_of_the_head_at_one(kind):
    model, batch, _ = clean_pass(0.0, kind)
    R4f().attach(model)
    head = model.heads[batch.task.name]
    for _ in range(3):
        assert torch.linalg.svdvals(head.weight)[0].item() == pytest.approx(1.0, abs=1e-12)
        model(batch).logits.sum().backward()
        with torch.no_grad():
            head.direction -= 0.5 * head.direction.grad
    moved = (torch.linalg.svdvals(head.direction)[0] - 1).abs()
    assert moved > 1e-2 or head.direction.numel() == 1  # the factor of a cosine has no direction to move in


def test_the_gradient_of_the_spectral_head_equals_finite_differences():
    torch.manual_seed(0)
    head, x = SpectralLinear(torch.nn.Linear(4, 3).double()), torch.randn(5, 4, dtype=torch.float64)
    weight = torch.randn(5, 3, dtype=torch.float64)

    def loss(direction):
        scaled = direction / torch.linalg.svdvals(direction)[0]
        return ((x @ scaled.T + head.bias) * weight).sum()

    assert torch.allclose((head(x) * weight).sum(), loss(head.direction))
    (gradient,) = torch.autograd.grad((head(x) * weight).sum(), head.direction)
    for i in range(3):
        for j in range(4):
            step = torch.zeros(3, 4, dtype=torch.float64)
            step[i, j] = 1e-6
            slope = (loss(head.direction + step) - loss(head.direction - step)) / 2e-6
            assert gradient[i, j].item() == pytest.approx(slope.item(), abs=1e-8)


@pytest.mark.parametrize(
    "option, setting, message",
    [
        ("r3f", "noise=pink", "noise must be one of uniform, normal, not pink"),
        ("r4f", "at=head", "at must be one of word, embedding, not head"),
        ("r3f", "dropout=on", "dropout must be one of shared, independent, off, not on"),
    ],
)
def test_a_word_that_is_no_choice_is_refused(option, setting, message):
    with pytest.raises(InputError, match=f"--set {option}: {message}"):
        build(option, [f"{option}.{setting}"])


def test_weight_decay_leaves_the_direction_of_r4fs_head_alone():
    """Its length has no effect, so decay would only change the size of the steps."""
    model, method = make_model(), build("r4f")
    method.attach(model)
    decayed, undecayed = parameter_groups(model, 0.1, method.undecayed(model))
    (direction,) = [p for name, p in model.named_parameters() if name.endswith("direction")]
    assert any(p is direction for p in undecayed["params"]) and all(p is not direction for p in decayed["params"])

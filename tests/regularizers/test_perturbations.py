"""LNSR, noise, R3F and R4F: their equations as slow loops in float64, and their limits."""

import pytest
import torch
from support.factories import KINDS, make_batch, make_model

from minbert.bert import expand_attention_mask
from minbert.classifier import features
from minbert.errors import InputError
from minbert.losses import symmetric_kl
from regularizers import build
from regularizers.lnsr import Lnsr
from regularizers.noise import Noise
from regularizers.r3f import R3f, R4f, SpectralLinear


def ready(p: float = 0.1, kind: str = "two classes"):
    """A model in train mode, in float64, a batch, and the clean pass."""
    model = make_model(KINDS[kind], hidden_dropout_prob=p, attention_probs_dropout_prob=p).double().train()
    batch = make_batch(KINDS[kind])
    torch.manual_seed(1)
    return model, batch, model(batch)


def value(method, model, batch, clean, seed: int = 2):
    torch.manual_seed(seed)
    (term,) = method.penalty(model, batch, clean).values()
    return term


@pytest.mark.parametrize("reduction", ["token", "sum"])
@pytest.mark.parametrize("layer", [1, 2, 3])
def test_lnsr_is_its_equation_in_a_slow_loop(layer, reduction):
    model, batch, clean = ready(p=0.0)
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
    assert value(method, model, batch, clean).item() == pytest.approx(0.7 * total / 5, rel=1e-12)


def test_lnsr_on_a_linear_layer_is_sigma_squared_times_the_frobenius_norm():
    model, batch, _ = ready(p=0.0)
    weight = torch.randn(12, 12, dtype=torch.float64)
    model.bert.layers = torch.nn.ModuleList([Linear(weight)])
    clean = model(batch)
    method = Lnsr(sigma=0.1)
    mean = torch.stack([value(method, model, batch, clean, seed) for seed in range(400)]).mean()
    assert mean.item() == pytest.approx(0.01 * weight.square().sum().item(), rel=0.03)


class Linear(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight

    def forward(self, h, mask, task=None):
        return h @ self.weight.T


def test_lnsr_is_zero_without_noise_and_grows_as_its_square():
    model, batch, clean = ready(p=0.1)
    for layer in (1, 2, 3):  # exactly: from each layer on, the masks are the clean pass's
        assert value(Lnsr(sigma=0.0, layer=layer), model, batch, clean) == 0.0
    small, double = (value(Lnsr(sigma=s), model, batch, clean) for s in (1e-4, 2e-4))
    assert (double / small).item() == pytest.approx(4, rel=0.01)
    assert value(Lnsr(sigma=0.0, dropout="independent"), model, batch, clean) > 0.1
    assert value(Lnsr(sigma=0.0, dropout="off"), model, batch, clean) == 0.0
    off = value(Lnsr(sigma=0.1, dropout="off"), model, batch, clean)
    model.eval()
    assert off == value(Lnsr(sigma=0.1), model, batch, model(batch))


def test_relative_noise_is_five_percent_of_each_token():
    _, batch, clean = ready()
    x, real = clean.hidden[0], batch.attention_mask
    noise = Lnsr(noise="relative").draw(x, batch)
    assert torch.allclose(noise.norm(dim=-1)[real], 0.05 * x.norm(dim=-1)[real])
    assert not noise[~real].any()


@pytest.mark.parametrize("noise", ["absolute", "relative"])
def test_lnsr_runs_only_the_layers_from_b_again_and_both_sides_have_a_gradient(noise):
    """But not through the size of the noise."""
    method = Lnsr(layer=3, sigma=0.5, noise=noise)
    model, batch, clean = ready(p=0.0)
    calls = []
    for number, block in enumerate(model.bert.layers, start=1):
        block.register_forward_hook(lambda *_, n=number: calls.append(n))
    penalty = value(method, model, batch, clean)
    assert calls == [3]
    x = clean.hidden[2]
    (gradient,) = torch.autograd.grad(penalty, x, retain_graph=True)
    h = x.detach().requires_grad_()
    torch.manual_seed(2)
    noisy = model.bert.layers[2](h + method.draw(h.detach(), batch), expand_attention_mask(batch.attention_mask))
    plain = model.bert.layers[2](h, expand_attention_mask(batch.attention_mask))
    real = batch.attention_mask
    by_hand = (((noisy - plain).square().sum(-1) * real).sum(-1) / real.sum(-1)).mean()
    assert torch.allclose(gradient, torch.autograd.grad(by_hand, h)[0], atol=1e-12)


@pytest.mark.parametrize("layer", [1, 3])
def test_noise_is_on_the_input_of_one_layer_in_training_alone(layer):
    model, batch, clean = ready(p=0.0)
    Noise(layer=layer, sigma=0.3).attach(model)
    torch.manual_seed(4)
    out = model(batch)
    torch.manual_seed(4)
    h = clean.hidden[layer - 1] + 0.3 * torch.randn(5, 7, 12, dtype=torch.float64) * batch.attention_mask[..., None]
    plain, _, _ = ready(p=0.0)
    for number in range(layer - 1, 3):
        h = plain.bert.layers[number](h, expand_attention_mask(batch.attention_mask))
    assert torch.allclose(out.hidden[-1], h, atol=1e-12)
    assert torch.equal(out.hidden[layer - 1], clean.hidden[layer - 1])  # what came below is as it was
    model.eval(), plain.eval()
    assert torch.equal(model(batch).logits, plain(batch).logits)


@pytest.mark.parametrize("option", ["lnsr", "noise"])
@pytest.mark.parametrize("layer", [0, 4])
def test_a_layer_that_is_not_there(option, layer):
    with pytest.raises(InputError, match=f"--set {option}: layer must lie from 1 to the model's 3, not {layer}"):
        build(option, [f"{option}.layer={layer}"]).attach(make_model())


@pytest.mark.parametrize("at", ["word", "embedding"])
@pytest.mark.parametrize("kind", KINDS)
def test_r3f_is_the_divergence_from_a_pass_with_noise(kind, at):
    model, batch, clean = ready(p=0.0, kind=kind)
    penalty = value(R3f(eps=0.2, weight=0.7, at=at), model, batch, clean)
    torch.manual_seed(2)
    z = 0.2 * (2 * torch.rand(*batch.input_ids.shape, 12, dtype=torch.float64) - 1) * batch.attention_mask[..., None]
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
    swapped = batch.task.divergence(noisy, clean.logits)
    assert torch.allclose(0.7 * swapped, penalty, rtol=1e-12)


@pytest.mark.parametrize("at", ["word", "embedding"])
def test_r3f_without_noise_is_zero_because_the_masks_are_repeated(at):
    model, batch, clean = ready(p=0.1)
    assert value(R3f(eps=0.0, at=at), model, batch, clean) == 0.0
    assert value(R3f(eps=0.0, at=at, dropout="independent"), model, batch, clean) > 1e-6
    assert value(R3f(eps=0.0, at=at, dropout="off"), model, batch, clean) == 0.0


def test_r3f_draws_what_its_header_says():
    like = torch.empty(100, 100, 50)
    uniform, normal = R3f(eps=0.3).draw(like), R3f(eps=0.3, noise="normal").draw(like)
    assert uniform.abs().max() <= 0.3 and uniform.mean().abs() < 1e-3
    assert uniform.var().item() == pytest.approx(0.03, rel=0.01)  # ε²/3
    assert normal.mean().abs() < 2e-3 and normal.std().item() == pytest.approx(0.3, rel=0.01)


def test_r3f_reaches_the_embedding_table_through_both_passes():
    model, batch, clean = ready(p=0.0)
    penalty = value(R3f(eps=0.2), model, batch, clean)
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
    model, batch, _ = ready(p=0.0, kind=kind)
    R4f().attach(model)
    head = model.heads[batch.task.name]
    for _ in range(3):
        assert torch.linalg.svdvals(head.weight)[0].item() == pytest.approx(1.0, abs=1e-12)
        model(batch).logits.sum().backward()
        with torch.no_grad():
            head.direction -= 0.5 * head.direction.grad
    moved = (torch.linalg.svdvals(head.direction)[0] - 1).abs()
    assert moved > 1e-2 or head.direction.numel() == 1  # the factor of a cosine has no direction to move in


def test_the_spectral_heads_gradient_by_finite_differences():
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
        ("lnsr", "sigma=-1", "sigma must be a number from 0 up, not -1.0"),
        ("lnsr", "weight=inf", "weight must be a number from 0 up, not inf"),
        ("lnsr", "noise=loud", "noise must be absolute or relative, not loud"),
        ("lnsr", "reduction=mean", "reduction must be token or sum, not mean"),
        ("lnsr", "dropout=on", "dropout must be one of shared, independent, off, not on"),
        ("noise", "sigma=nan", "sigma must be a number from 0 up, not nan"),
        ("r3f", "eps=-1", "eps must be a number from 0 up, not -1.0"),
        ("r3f", "noise=pink", "noise must be uniform or normal, not pink"),
        ("r4f", "at=head", "at must be word or embedding, not head"),
    ],
)
def test_bad_hyper_parameters(option, setting, message):
    with pytest.raises(InputError, match=f"--set {option}: {message}"):
        build(option, [f"{option}.{setting}"])

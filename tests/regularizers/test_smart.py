"""SMART by its equations, in float64 on tiny models."""

from dataclasses import replace

import pytest
import torch
from support.factories import KINDS, make_batch, make_model
from torch import nn

from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.losses import symmetric_kl
from regularizers import build, smart
from regularizers.perturbation import DROPOUT_MODES
from regularizers.smart import Smart


def ready(task=TASKS["rte"], p: float = 0.1, **settings):
    """(method, model, batch) in float64 and train mode; `p` is the model's dropout."""
    model = make_model(task, hidden_dropout_prob=p, attention_probs_dropout_prob=p).double().train()
    method = Smart(**settings)
    method.attach(model)
    return method.train(), model, make_batch(task)


def perturbation(method, model, batch):
    clean = model(batch)
    return method.adversary(model, batch, clean, clean.hidden[0].detach(), clean.logits.detach())


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("eps", [1e-5, 1e-2, 1.0])
def test_the_perturbation_stays_in_the_ball_and_off_the_padding(eps, steps):
    method, model, batch = ready(eps=eps, steps=steps)
    delta = perturbation(method, model, batch)
    assert 0.5 * eps < delta.abs().max() <= eps * (1 + 1e-6)
    assert (delta[~batch.attention_mask] == 0).all()
    assert all(p.grad is None for p in model.parameters())


def test_with_normalize_the_largest_entry_of_each_token_is_about_one():
    """The largest entry of each token's perturbation is about 1 there, 100,000 times the paper's ε."""
    method, model, batch = ready(project="normalize")
    largest = perturbation(method, model, batch).abs().amax(-1)
    assert (largest[batch.attention_mask] > 0.5).all() and (largest <= 1).all()
    assert (largest[~batch.attention_mask] == 0).all()


def test_the_sizes_of_start_and_step_follow_the_projection():
    clamp, normalize = Smart(eps=0.02), Smart(project="normalize")  # D3
    assert (clamp.sigma, clamp.eta) == (0.02, 2.0) and (normalize.sigma, normalize.eta) == (1e-5, 1e-5)
    assert (Smart(sigma=0.1, eta=0.2).sigma, Smart(sigma=0.1, eta=0.2).eta) == (0.1, 0.2)


def test_with_shared_masks_a_zero_perturbation_has_a_penalty_of_exactly_zero():
    method, model, batch = ready(eps=0.0)
    assert method.smoothness(model, batch, model(batch)).item() == 0.0


def test_with_independent_masks_a_zero_perturbation_has_a_penalty():
    method, model, batch = ready(eps=0.0, dropout="independent")
    assert method.smoothness(model, batch, model(batch)).item() > 1e-4


def test_dropout_off_compares_two_passes_without_dropout():
    method, model, batch = ready(eps=0.0, dropout="off")
    assert method.smoothness(model, batch, model(batch)).item() == 0.0
    assert model.training
    method, model, batch = ready(dropout="off")
    twin, plain, _ = ready(p=0.0)
    plain.load_state_dict(model.state_dict())
    values = []
    for m, net in ((method, model), (twin, plain)):
        clean = net(batch)
        torch.manual_seed(3)
        values.append(m.smoothness(net, batch, clean))
    assert torch.allclose(*values, rtol=1e-12)


class Linear(nn.Module):
    """logits = W · mean of the real tokens: the gradient, and so the worst perturbation, is known."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.weight = nn.Parameter(torch.randn(3, 12, dtype=torch.float64))

    def encode(self, h, batch, start=0):
        return (h,)

    def head(self, h, batch):
        real = batch.attention_mask.unsqueeze(-1)
        return (h * real).sum(1) / real.sum(1) @ self.weight.T


class Clean:
    def __init__(self, model, batch, x):
        self.hidden, self.logits, self.rng = (x,), model.head(x, batch), (None,)


def test_the_ascent_finds_the_corner_of_the_ball_that_the_closed_form_names():
    """∂ℓ/∂z₁ = (p₁-p₂) + p₁∘((z₁-z₂) - p₁·(z₁-z₂)) for the symmetric KL, and ∂z/∂x = W/T for each token."""
    model, batch = Linear(), make_batch(KINDS["three classes"])
    x = torch.randn(5, 7, 12, dtype=torch.float64)
    method = Smart(eps=1e-2, dropout="independent")
    clean = Clean(model, batch, x)
    torch.manual_seed(1)
    start = (1e-2 * torch.randn_like(x)).clamp(-1e-2, 1e-2) * batch.attention_mask.unsqueeze(-1)
    torch.manual_seed(1)
    delta = method.adversary(model, batch, clean, x, clean.logits.detach())
    z1, z2 = model.head(x + start, batch), clean.logits
    p1, p2 = z1.softmax(-1), z2.softmax(-1)
    slope = (p1 - p2) + p1 * ((z1 - z2) - (p1 * (z1 - z2)).sum(-1, keepdim=True))
    gradient = slope @ model.weight  # (B,D), the same for each token of a row
    sure = gradient.abs() > 0.03 * gradient.abs().amax(-1, keepdim=True)  # saturated from anywhere in the ball
    for row in range(5):
        for token in torch.nonzero(batch.attention_mask[row]).flatten():
            expected = 1e-2 * gradient[row].sign()
            assert torch.allclose(delta[row, token][sure[row]], expected[sure[row]])
    assert sure.double().mean() > 0.8
    change = [symmetric_kl(model.head(x + d, batch), z2) for d in (start, delta)]
    assert change[1] > 2 * change[0]


@pytest.mark.parametrize("project", ["clamp", "normalize"])
def test_the_ascent_equals_its_equations_step_by_step(project):
    """Three steps on a model whose tokens have gradients of different size, with σ and η of their own."""
    method, model, batch = ready(p=0.0, eps=0.02, sigma=0.003, eta=0.001, steps=3, project=project)
    clean = model(batch)
    x, z = clean.hidden[0].detach(), clean.logits.detach()
    torch.manual_seed(4)
    delta = method.adversary(model, batch, clean, x, z)
    torch.manual_seed(4)
    expected = 0.003 * torch.randn_like(x)
    expected[~batch.attention_mask] = 0
    for _ in range(3):
        expected.requires_grad_()
        logits = model.head(model.encode(x + expected, batch)[-1], batch)
        (g,) = torch.autograd.grad(5 * symmetric_kl(logits, z), expected)  # the sum over the 5 examples
        expected = expected.detach().clone()
        for row in range(5):
            real = batch.attention_mask[row]
            if project == "clamp":
                moved = expected[row] + 0.001 * g[row] / g[row].abs().max()
                expected[row] = moved.clamp(-0.02, 0.02)
            else:
                for token in range(7):
                    moved = expected[row, token] + 0.001 * g[row, token]
                    expected[row, token] = moved / (moved.abs().max() + 1e-6)
            expected[row][~real] = 0
    assert torch.allclose(delta, expected, atol=1e-9)


@pytest.mark.parametrize("dropout", DROPOUT_MODES)
@pytest.mark.parametrize("project", ["clamp", "normalize"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_has_the_perturbations_of_its_micro_batches(kind, project, dropout, monkeypatch):
    """With η so small that each step keeps the gradient's size. (A batch is cut between examples, not inputs.)"""
    method, model, batch = ready(KINDS[kind], p=0.0, eta=1e-3, steps=2, project=project, dropout=dropout)
    noise = torch.randn(len(batch.input_ids), 7, 12, dtype=torch.float64)
    monkeypatch.setattr(smart, "draw_noise", lambda like, real: noise[chosen] * real.unsqueeze(-1))
    chosen = torch.arange(len(noise))
    whole = perturbation(method, model, batch)
    for rows in (torch.arange(2), torch.arange(2, 5)):
        chosen = torch.cat([rows, 5 + rows]) if batch.task.separate else rows
        tensors = {name: getattr(batch, name)[chosen] for name in ("input_ids", "token_type_ids", "attention_mask")}
        part = replace(batch, **tensors, labels=batch.labels[rows], index=batch.index[rows])
        assert torch.allclose(perturbation(method, model, part), whole[chosen], rtol=1e-9, atol=1e-15)


def test_a_step_of_the_ascent_does_not_vanish_with_the_gradient():
    """The guard of the division must be far below any gradient: a flat head gives one of about 1e-15 here."""
    method, model, batch = ready(p=0.0, eps=1e-5, sigma=1e-7)
    with torch.no_grad():
        model.heads["rte"].weight.mul_(1e-4)
    assert (perturbation(method, model, batch).abs().amax((1, 2)) == 1e-5).all()


@pytest.mark.parametrize("kind", KINDS)
def test_gradient_of_the_penalty_with_the_perturbation_held_equals_finite_differences(kind, monkeypatch):
    method, model, batch = ready(KINDS[kind], p=0.0, mu=0.0)
    fixed = 0.3 * torch.randn(*batch.input_ids.shape, 12, dtype=torch.float64) * batch.attention_mask.unsqueeze(-1)
    monkeypatch.setattr(method, "adversary", lambda *_: fixed)
    parameters = dict(model.named_parameters())
    method.smoothness(model, batch, model(batch)).backward()
    chosen = ["embeddings.token.weight", "layers.0.attention.value.weight", "layers.2.feed_forward.up.bias"]
    for name in [f"bert.{n}" for n in chosen] + [n for n in parameters if n.startswith("heads.")][:1]:
        p = parameters[name]
        place = p.grad.abs().argmax().item()
        values = []
        with torch.no_grad():
            for shift in (1e-5, -2e-5):
                p.view(-1)[place] += shift
                values.append(method.smoothness(model, batch, model(batch)).item())
            p.view(-1)[place] += 1e-5
        assert p.grad.view(-1)[place].item() == pytest.approx((values[0] - values[1]) / 2e-5, rel=1e-4)
        assert p.grad.abs().max() > 0


def test_terms_carry_their_weights():
    for weight, mu in ((1.0, 1.0), (3.0, 0.5)):
        method, model, batch = ready(weight=weight, mu=mu)
        clean = model(batch)
        torch.manual_seed(2)
        terms = method.penalty(model, batch, clean)
        if weight == 1.0:
            first = terms
    assert torch.allclose(terms["smoothness"], 3 * first["smoothness"])
    assert torch.allclose(terms["proximal"], 0.5 * first["proximal"])


def test_the_teacher_is_the_closed_form_of_its_moving_average():
    method, model, _ = ready(beta=(0.7, 0.9))
    history = [p.detach().clone() for p in model.parameters()]
    expected = [p.clone() for p in history]
    for step in range(1, 11):
        before = [p.clone() for p in method.teacher.parameters()]
        with torch.no_grad():
            for p in model.parameters():
                p.add_(torch.randn_like(p))
        assert all(torch.equal(a, b) for a, b in zip(before, method.teacher.parameters()))
        method.after_step(model, progress=step / 20)
        beta = 0.7 if step <= 2 else 0.9  # the first tenth of 20 steps
        expected = [(1 - beta) * p.detach() + beta * e for p, e in zip(model.parameters(), expected)]
    for own, e, first in zip(method.teacher.parameters(), expected, history):
        assert torch.allclose(own, e, atol=1e-12) and not torch.allclose(own, first)
        assert not own.requires_grad


@pytest.mark.parametrize("steps", [7, 40])
def test_the_share_of_the_start_in_the_teacher_halves_in_each_half_life(steps):
    """The model jumps once, from θ₀ to another point, and stays there: the teacher lies between them."""
    method, model, _ = ready(half_life=0.25)
    start = [p.clone() for p in model.parameters()]
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    for step in range(1, steps + 1):
        method.after_step(model, progress=step / steps)
        share = 0.5 ** (step / steps / 0.25)
        assert method.report() == {"start_in_teacher": pytest.approx(share, rel=1e-12)}
        for own, first in zip(method.teacher.parameters(), start, strict=True):
            assert torch.allclose(own, first + (1 - share), rtol=1e-12)


def test_a_half_life_of_zero_is_a_teacher_without_memory():
    method, model, _ = ready(half_life=0.0)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1.0)
    method.after_step(model, progress=0.1)
    assert all(torch.equal(a, b) for a, b in zip(method.teacher.parameters(), model.parameters(), strict=True))
    assert method.report() == {"start_in_teacher": 0.0}


def test_a_restored_method_goes_on_with_its_teacher():
    method, model, _ = ready()
    for step in range(1, 4):
        method.after_step(model, progress=step / 10)
    other = ready()[0]
    other.load_state_dict(method.state_dict())
    for m in (method, other):
        m.after_step(model, progress=0.4)
    assert other.report() == method.report() != {"start_in_teacher": 1.0}


def test_the_proximal_term_is_zero_at_the_teacher_and_not_away_from_it():
    method, model, batch = ready(p=0.0, weight=0.0, beta=(0.5, 0.5))

    def proximal() -> torch.Tensor:
        return method.penalty(model, batch, model(batch))["proximal"]

    at_teacher = proximal()
    at_teacher.backward()
    # Not exactly 0: with and without a gradient, attention may run in kernels whose last bits differ.
    assert at_teacher.item() < 1e-20
    assert all(p.grad is None or p.grad.abs().max() < 1e-10 for p in model.parameters())
    with torch.no_grad():
        model.heads["rte"].weight[0].add_(0.5)  # one row only: the same change of both rows changes no probability
    away = proximal().item()
    assert away > 1e-3
    method.after_step(model, progress=1.0)
    assert 0.1 * away < proximal().item() < 0.5 * away  # half the distance: about a quarter of the divergence


def test_the_teacher_runs_without_dropout_and_shares_no_storage():
    method, model, batch = ready()
    assert not method.teacher.training
    assert torch.equal(method.teacher(batch).logits, method.teacher(batch).logits)
    storages = {p.data_ptr() for p in model.parameters()}
    assert not storages & {p.data_ptr() for p in method.teacher.parameters()}
    assert not hasattr(ready(mu=0.0)[0].teacher, "parameters")


@pytest.mark.parametrize(
    "setting, message",
    [
        ("project=clip", "project must be one of clamp, normalize, not clip"),
        ("dropout=on", "dropout must be one of shared, independent, off, not on"),
        ("beta=0.9,1.1", "beta must be two numbers from 0 to 1, not "),
        ("beta=0.9,0.99 half_life=0.05", "half_life and beta both say how fast the teacher follows: set one of them"),
    ],
)
def test_a_bad_setting_is_refused(setting, message):
    with pytest.raises(InputError, match=f"--set smart: {message}"):
        build("smart", [f"smart.{text}" for text in setting.split()])

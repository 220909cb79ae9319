"""FreeLB: its steps in slow loops in float64, its gradient as the mean of K explicit backward passes, its limits."""

import math

import pytest
import torch
from support.factories import KINDS, make_batch, make_model, turn_off_dropout

from minbert.random_state import replay
from regularizers.freelb import FreeLB


def ready(kind: str = "two classes", dropout: bool = True):
    """A model in train mode, in float64, a batch, and the clean pass."""
    model, batch = make_model(KINDS[kind]).double().train(), make_batch(KINDS[kind])
    if not dropout:
        turn_off_dropout(model)
    torch.manual_seed(1)
    return model, batch, model(batch)


def loss_and_gradient(method: FreeLB, model, batch, clean, seed: int = 2) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    torch.manual_seed(seed)
    loss = method.loss(model, batch, clean)
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def slow_norm(rows: list[list[float]]) -> float:
    return math.sqrt(sum(v * v for row in rows for v in row))


def slow_ascent(delta: torch.Tensor, g: torch.Tensor, eps: float, alpha: float) -> torch.Tensor:
    """One step up g, and back into the ball, number by number."""
    examples = []
    for d, direction in zip(delta.tolist(), g.tolist()):
        length = slow_norm(direction)
        moved = [[a + alpha * b / length for a, b in zip(*rows)] for rows in zip(d, direction)]
        shrink = min(1.0, eps / slow_norm(moved))
        examples.append([[v * shrink for v in row] for row in moved])
    return torch.tensor(examples, dtype=torch.float64)


def slow_freelb(model, batch, clean, eps: float, alpha: float, steps: int, seed: int = 2):
    """K forward and backward passes with .backward(), whose gradients add up in .grad. Also returns every δ."""
    torch.manual_seed(seed)
    uniform = 2 * torch.rand(*batch.input_ids.shape, 12, dtype=torch.float64) - 1
    delta = torch.zeros_like(uniform)
    for i, real in enumerate(batch.attention_mask.sum(1).tolist()):
        delta[i, :real] = eps * uniform[i, :real] / math.sqrt(real * 12)
    model.zero_grad()
    losses, deltas = [], []
    for _ in range(steps):
        deltas.append(delta)
        delta = delta.clone().requires_grad_()
        with replay(clean.entry):
            h = model.embed(batch, noise=delta)
            logits = model.head(model.encode(h, batch)[-1], batch)
        loss = batch.task.loss(logits, batch.labels)
        (loss / steps).backward()
        losses.append(loss.item())
        delta = slow_ascent(delta.detach(), delta.grad, eps, alpha)
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return sum(losses) / steps, gradients, losses, deltas


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("eps, alpha, steps", [(0.3, 0.1, 3), (0.2, 0.5, 4), (0.3, 0.1, 1)])
def test_its_gradient_is_the_mean_of_k_backward_passes(kind, eps, alpha, steps):
    """With a step that stays inside the ball, and with one that leaves it."""
    model, batch, clean = ready(kind)
    value, gradients, losses, _ = slow_freelb(model, batch, clean, eps, alpha, steps)
    ours, own_gradients = loss_and_gradient(FreeLB(eps=eps, alpha=alpha, steps=steps), model, batch, clean)
    assert ours == pytest.approx(value, rel=1e-9)
    assert own_gradients.keys() == gradients.keys()
    for name, g in gradients.items():
        assert (own_gradients[name] - g).norm() <= 1e-7 * g.norm() + 1e-12, name
    assert len(set(losses)) == steps


def test_one_step_without_a_perturbation_is_the_plain_loss():
    """Also with dropout, because the pass repeats the masks of the clean pass."""
    model, batch, clean = ready()
    value, gradients = loss_and_gradient(FreeLB(eps=1e-14, alpha=0.0, steps=1), model, batch, clean)
    loss = batch.task.loss(clean.logits, batch.labels)
    model.zero_grad()
    loss.backward()
    assert value == pytest.approx(loss.item(), rel=1e-9)
    for name, p in model.named_parameters():
        assert (gradients[name] - p.grad).norm() <= 1e-7 * p.grad.norm() + 1e-12, name


def test_the_ascent_raises_the_loss_from_step_to_step():
    model, batch, clean = ready(dropout=False)
    _, _, losses, _ = slow_freelb(model, batch, clean, eps=1.0, alpha=0.05, steps=4)
    value, _ = loss_and_gradient(FreeLB(eps=1.0, alpha=0.05, steps=4), model, batch, clean)
    assert losses == sorted(losses) and value > losses[0]


@pytest.mark.parametrize("kind", ["two classes", "separate classes"])
def test_every_perturbation_stays_in_the_ball_of_its_example_and_off_the_padding(kind, monkeypatch):
    model, batch, clean = ready(kind)
    seen, embed = [], model.embed
    monkeypatch.setattr(model, "embed", lambda b, noise: seen.append(noise.detach().clone()) or embed(b, noise))
    loss_and_gradient(FreeLB(eps=0.2, alpha=0.15, steps=4), model, batch, clean)
    norms = torch.stack([delta.flatten(1).norm(dim=1) for delta in seen])  # (K, inputs)
    assert norms.shape == (4, len(batch.input_ids)) and norms.max() <= 0.2 * (1 + 1e-9)
    assert (norms[-1] > 0.2 * (1 - 1e-9)).all()  # each input has a ball of its own, and reaches its surface
    assert not torch.stack(seen)[:, ~batch.attention_mask].any()


def test_the_first_perturbation_is_uniform_and_as_long_for_a_short_text_as_for_a_long_one():
    batch = make_batch(rows=2, tokens=40)
    batch.attention_mask[1, 10:] = False
    delta = FreeLB(eps=0.3).start(torch.empty(2, 40, 500, dtype=torch.float64), batch)
    for i, tokens in enumerate(batch.attention_mask.sum(1).tolist()):
        bound = 0.3 / math.sqrt(tokens * 500)
        real = delta[i, :tokens]
        assert 0.99 * bound < real.abs().max() <= bound and real.mean().abs() < 0.02 * bound
        assert delta[i].norm().item() == pytest.approx(0.3 / math.sqrt(3), rel=0.02)  # the variance of U(-1, 1) is 1/3


def test_an_example_without_a_gradient_keeps_its_perturbation():
    delta, g = torch.full((2, 3, 4), 1e-3, dtype=torch.float64), torch.zeros(2, 3, 4, dtype=torch.float64)
    g[1] = 1.0
    ascended = FreeLB(eps=0.3, alpha=0.1).ascend(delta, g)
    assert torch.equal(ascended[0], delta[0]) and torch.isfinite(ascended).all() and (ascended[1] > delta[1]).all()

"""The steps of a model and of an optimizer, in the order in which they are checked."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from minbert.sanity import mistakes, plain
from minbert.sanity.plain import Reference
from minbert.sanity.verdict import Step

# Betas far from 1 and a large eps: every mistake with them shows within a few steps.
SETTINGS = {"lr": 0.1, "betas": (0.8, 0.95), "eps": 0.05, "weight_decay": 0.0, "correct_bias": True}


def model_steps(model: nn.Module, r: Reference, expand_mask: Callable[[Tensor], Tensor]) -> Iterator[Step]:
    """The parts of the model, then the whole model. Each part gets its right input from the reference."""
    real = r.mask[..., None]
    last = r.expected[f"encoder.layer.{r.config.num_hidden_layers - 1}.output"]
    ids, mask, segments = copy_to(model, r.ids, r.mask.long(), r.segments)
    yield Step(
        "embedding", r.expected["embeddings"], lambda: model.embeddings(ids, segments), partial(plain.embedding, r),
        mistakes.EMBEDDING, "it is LayerNorm(token + position + segment), then dropout", real,
    )  # fmt: skip
    yield Step(
        "attention mask", plain.attention_mask(r), lambda: as_permissions(expand_mask(mask), mask.shape[1]),
        partial(plain.attention_mask, r), mistakes.MASK,
        "it hides padded keys from every query: [B,1,1,T], True (or 0.0 if it is added to the scores) at real tokens",
    )  # fmt: skip
    for number in range(r.config.num_hidden_layers):
        yield from layer_steps(model, r, number, expand_mask(mask))
    yield Step(
        "pooler", r.expected["pooler"], lambda: model.pool(*copy_to(model, last)), partial(plain.pooler, r, last),
        mistakes.POOLER, "it is tanh(Wh + b) of the first token's h",
    )  # fmt: skip
    yield Step(
        "whole model, hidden states", plain.hidden_states(r), lambda: all_hidden(model(ids, mask, segments)),
        partial(plain.hidden_states, r), mistakes.MODEL,
        "every part alone is right: look at BertModel.forward, at what it gives from one part to the next", real,
    )  # fmt: skip
    yield Step(
        "whole model, pooler output", r.expected["pooler"], lambda: model(ids, mask, segments).pooler_output,
        partial(plain.pooler, r, r.expected["embeddings"]), mistakes.POOLED,
        "it is the pooler's output for the last hidden state",
    )  # fmt: skip


def layer_steps(model: nn.Module, r: Reference, number: int, mask: Tensor) -> Iterator[Step]:
    """The attention and the feed-forward alone, then the whole layer, which connects them."""
    title, name, real = f"layer {number}", f"encoder.layer.{number}", r.mask[..., None]
    h = r.expected[f"encoder.layer.{number - 1}.output" if number else "embeddings"]
    y, a = r.expected[f"{name}.attention.output.dense"], r.expected[f"{name}.attention.output"]

    def layer() -> nn.Module:  # looked up when a step runs, so that a missing layer is an error of that step
        return model.layers[number]

    for part, run in [
        ("attention", lambda: layer().attention(*copy_to(model, h), mask)),
        ("attention, explicit", lambda: layer().attention.explicit(*copy_to(model, h), mask)[0]),
    ]:
        if part == "attention, explicit" and not hasattr(layer().attention, "explicit"):
            continue
        yield Step(
            f"{title} {part}", y, run, partial(plain.attention, r, number, h), mistakes.ATTENTION,
            "it is softmax(QKᵀ/√d)V for each head, padded keys at -∞; then heads are merged and projected", real,
        )  # fmt: skip
    yield Step(
        f"{title} feed-forward", r.expected[f"{name}.output.dense"], lambda: layer().feed_forward(*copy_to(model, a)),
        partial(plain.feed_forward, r, number, a), mistakes.FEED_FORWARD, "it is W₂ GELU(W₁h + b₁) + b₂, then dropout",
        real,
    )  # fmt: skip
    yield Step(
        f"{title} residuals and LayerNorms", r.expected[f"{name}.output"], lambda: layer()(*copy_to(model, h), mask),
        partial(plain.layer, r, number, h), mistakes.LAYER,
        "a layer is a = LN(h + Attention(h)), then LN(a + FeedForward(a)), and gives the mask on unchanged", real,
    )  # fmt: skip


def all_hidden(encoded) -> Tensor:
    """[L+2,B,T,D], as plain.hidden_states"""
    return torch.stack([*encoded.hidden_states, encoded.last_hidden_state])


def copy_to(model: nn.Module, *tensors: Tensor) -> list[Tensor]:
    """Copies on the model's device, floats in its precision. A model that writes into its input changes only these."""
    like = next(model.parameters())
    return [x.to(like.device, like.dtype if x.is_floating_point() else x.dtype, copy=True) for x in tensors]


def as_permissions(mask: Tensor, tokens: int) -> Tensor:
    """An expanded mask as 1 and 0, [B,1,T,T]. A mask of floats is added to the scores: there 0 stands for True."""
    mask = mask >= 0 if mask.is_floating_point() else mask.bool()
    return mask.double().expand(-1, 1, tokens, tokens)


def optimizer_steps(cls: type) -> Iterator[Step]:
    """A trajectory of two parameters for each setting. Then the last one again, with the state saved and restored."""
    generator = torch.Generator().manual_seed(0)
    starts = [torch.randn(size, generator=generator) for size in (15, 4)]
    gradients = [[torch.randn(start.shape, generator=generator) for _ in range(6)] for start in starts]
    gradients[1][2] = None  # as for the adapter of a task that is not in the batch
    hint = "the docstring of minbert/optimizer.py has the equations; m, v and the step count belong in self.state[p]"
    for name, changes, resume_at, known in [
        ("with bias correction", {}, None, mistakes.ADAM),
        ("without bias correction", {"correct_bias": False}, None, mistakes.ADAM),
        ("with weight decay", {"weight_decay": 0.3}, None, mistakes.ADAM),
        ("saved and restored", {"weight_decay": 0.3}, 3, mistakes.RESUMED),
    ]:
        run = (starts, gradients, [SETTINGS | changes, SETTINGS | changes | {"lr": 0.03}], resume_at)
        compute = partial(plain_trajectory, *run)
        yield Step(f"optimizer {name}", compute(), partial(take_steps, cls, *run), compute, known, hint)


@torch.enable_grad()  # as in training, where the optimizer itself must turn gradients off
def take_steps(cls: type, starts: list, gradients: list, groups: list[dict], resume_at: int | None) -> Tensor:
    """[S,N]: the N numbers of all parameters after each step of the optimizer. State is restored before `resume_at`."""
    params, trajectory = [nn.Parameter(start.clone()) for start in starts], []

    def build() -> torch.optim.Optimizer:
        others = [{"params": [p]} | settings for p, settings in zip(params[1:], groups[1:])]
        return cls([{"params": params[:1]}, *others], **groups[0])  # the first group has the defaults

    optimizer = build()
    for number, row in enumerate(zip(*gradients)):
        if number == resume_at:
            state, optimizer = optimizer.state_dict(), build()
            optimizer.load_state_dict(state)
        for p, gradient in zip(params, row):
            p.grad = None if gradient is None else gradient.clone()
        optimizer.step()
        trajectory.append(torch.cat([p.detach().clone() for p in params]))
    return torch.stack(trajectory)


def plain_trajectory(starts, gradients, groups, resume_at, *, group_of=plain.same, **mistake) -> Tensor:
    """[S,N]: the same from plain.adam."""
    parts = []
    for number, (start, row) in enumerate(zip(starts, gradients)):
        parts.append(plain.adam(start, row, **groups[group_of(number)] | {"resume_at": resume_at} | mistake))
    return torch.cat(parts, dim=1)

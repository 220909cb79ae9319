"""BERT and AdamW as plain functions in float64, over the published tensors: the right numbers of every step.

Nothing here uses the modules under test. The keywords of a function are the places where it can go wrong: the defaults
give BERT, and mistakes.py lists the values that give a wrong result.
"""

import math
from dataclasses import dataclass, field, replace
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from minbert.config import BertConfig


@dataclass(frozen=True)
class Reference:
    """The weights of a model, inputs for it, and the right output of each part.

    All names are BERT's published ones, for the other families too, and "embeddings.project" for ALBERT's projection.
    """

    config: BertConfig
    weights: dict[str, Tensor]
    ids: Tensor  # [B,T]
    mask: Tensor  # [B,T], True at real tokens; every row has padding if T > 1
    segments: Tensor  # [B,T]
    expected: dict[str, Tensor] = field(default_factory=dict)  # in float64


def same(x):
    return x


def linear(r: Reference, name: str, x: Tensor) -> Tensor:
    return x @ r.weights[f"{name}.weight"].double().T + r.weights[f"{name}.bias"].double()


def layer_norm(r: Reference, name: str, x: Tensor, eps: float | None = None, correction: int = 0) -> Tensor:
    variance = x.var(-1, correction=correction, keepdim=True)
    x = (x - x.mean(-1, keepdim=True)) / (variance + (r.config.layer_norm_eps if eps is None else eps)).sqrt()
    return x * r.weights[f"{name}.weight"].double() + r.weights[f"{name}.bias"].double()


def embedding(
    r: Reference, *, first_position=0, segments=same, add=lambda token, position, segment: token + position + segment,
    norm=lambda norm, x: norm(x),
) -> Tensor:  # fmt: skip
    """-> [B,T,D]"""
    positions = (places(r) + first_position) % r.config.max_position_embeddings
    rows = {"word": r.ids, "position": positions}
    if r.config.type_vocab_size:
        rows["token_type"] = segments(r.segments)
    vectors = [r.weights[f"embeddings.{table}_embeddings.weight"][ids].double() for table, ids in rows.items()]
    if not r.config.type_vocab_size:  # DistilBERT
        vectors.append(torch.zeros_like(vectors[0]))
    h = norm(partial(layer_norm, r, "embeddings.LayerNorm"), add(*vectors))
    return h if r.config.embedding_size is None else linear(r, "embeddings.project", h)  # ALBERT


def places(r: Reference) -> Tensor:
    """The position of each token: [T], or for RoBERTa [B,T], counted over the real tokens."""
    if not r.config.positions_after_padding:
        return torch.arange(r.ids.shape[1])
    real = [[number != r.config.pad_token_id for number in row] for row in r.ids.tolist()]
    counted = [[r.config.pad_token_id + sum(row[: i + 1]) * row[i] for i in range(len(row))] for row in real]
    return torch.tensor(counted)


def attention_mask(r: Reference, *, change=same) -> Tensor:
    """-> [B,1,T,T]: 1 where the query (row) may attend to the key (column), else 0"""
    return change(r.mask.double()[:, None, None, :].expand(-1, 1, r.mask.shape[1], -1))


def masked_softmax(scores: Tensor, mask: Tensor, axis: int = -1, hidden: float = -math.inf) -> Tensor:
    return scores.where(mask, hidden).softmax(axis)


def attention(
    r: Reference, number: int, h: Tensor, *, roles=("query", "key", "value"),
    split=lambda x, heads: x.unflatten(-1, (heads, -1)).transpose(1, 2),  # [B,T,D] -> [B,H,T,d]
    divisor=lambda d, width: math.sqrt(d), softmax=masked_softmax,
    merge=lambda x: x.transpose(1, 2).flatten(2), project=linear,  # [B,H,T,d] -> [B,T,D]
) -> Tensor:  # fmt: skip
    """The attention of layer `number`, with its output projection: [B,T,D] -> [B,T,D]"""
    name = f"encoder.layer.{number}.attention"
    q, k, v = (split(linear(r, f"{name}.self.{role}", h), r.config.num_attention_heads) for role in roles)
    scores = q @ k.mT / divisor(q.shape[-1], h.shape[-1])
    return project(r, f"{name}.output.dense", merge(softmax(scores, r.mask[:, None, None, :]) @ v))


ACTIVATIONS = {"gelu": F.gelu, "gelu_new": partial(F.gelu, approximate="tanh"), "tanh": torch.tanh, "relu": torch.relu}


def feed_forward(r: Reference, number: int, a: Tensor, *, activation=None) -> Tensor:
    """The feed-forward of layer `number`: [B,T,D] -> [B,T,D]"""
    name, activation = f"encoder.layer.{number}", activation or ACTIVATIONS[r.config.hidden_act]
    return linear(r, f"{name}.output.dense", activation(linear(r, f"{name}.intermediate.dense", a)))


def add_norm(norm, x: Tensor, y: Tensor) -> Tensor:
    return norm(x + y)


def post_norm(h: Tensor, attend, feed_forward, norm_1, norm_2, *, first=add_norm, second=add_norm) -> Tensor:
    """a = LN(h + Attention(h)), then LN(a + FeedForward(a))"""
    a = first(norm_1, h, attend(h))
    return second(norm_2, a, feed_forward(a))


def norm_after(r: Reference, number: int, part: str):
    """The LayerNorm of layer `number` after the "attention.output" or after the "output" (of the feed-forward)."""
    return partial(layer_norm, r, f"encoder.layer.{number}.{part}.LayerNorm")


def layer(r: Reference, number: int, h: Tensor, *, mask=same, connect=post_norm) -> Tensor:
    """Layer `number`: [B,T,D] -> [B,T,D]"""
    attend = partial(attention, replace(r, mask=mask(r.mask)), number)
    norm_1, norm_2 = norm_after(r, number, "attention.output"), norm_after(r, number, "output")
    return connect(h, attend, partial(feed_forward, r, number), norm_1, norm_2)


def pooler(r: Reference, h: Tensor, *, pick=lambda h: h[:, 0], project=linear, activation=None) -> Tensor:
    """[B,T,D] -> [B,D]"""
    activation = activation or ACTIVATIONS[r.config.pooler_activation]
    return activation(project(r, "pooler.dense", pick(h)))


def activations(r: Reference) -> dict[str, Tensor]:
    """The output of each part of the model, under the published name of the part."""
    h = embedding(r)
    outputs = {"embeddings": h}
    for number in range(r.config.num_hidden_layers):
        name = f"encoder.layer.{number}"
        outputs[f"{name}.attention.output.dense"] = y = attention(r, number, h)
        outputs[f"{name}.attention.output"] = a = norm_after(r, number, "attention.output")(h + y)
        outputs[f"{name}.output.dense"] = z = feed_forward(r, number, a)
        outputs[f"{name}.output"] = h = norm_after(r, number, "output")(a + z)
    return outputs | {"pooler": pooler(r, h)}


def hidden_states(r: Reference, *, mask=same, segments=same, order=same, given=-1, first=0, last=-1) -> Tensor:
    """[L+2,B,T,D]: the hidden states (the embedding, the output of each layer), then the last hidden state again."""
    r = replace(r, mask=mask(r.mask), segments=segments(r.segments))
    hidden = [embedding(r)]
    for number in order(range(r.config.num_hidden_layers)):
        hidden.append(layer(r, number, hidden[given]))
    return torch.stack([*hidden[first:], hidden[last]])


def moments(m: Tensor, v: Tensor, g: Tensor, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    return beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g


def correction(beta1: float, beta2: float, t: int) -> float:
    return math.sqrt(1 - beta2**t) / (1 - beta1**t)


def adam(
    theta: Tensor, gradients: list[Tensor | None], lr: float, betas: tuple[float, float], eps: float,
    weight_decay: float, correct_bias: bool, resume_at: int | None = None, *, gradient=lambda g, theta, wd: g,
    moments=moments, factor=correction, denominator=lambda v, eps, root: v.sqrt() + eps,
    decay=lambda p, q, wd, lr, c: q - lr * wd * q, without_gradient="skip", restore=lambda m, v, t: (m, v, t),
) -> Tensor:  # fmt: skip
    """The parameter after each of S steps: [S,N]. A step without a gradient changes nothing, not even t.

    `decay` is given the parameter before and after Adam's step (p, q), wd, lr, and the bias correction c. Before step
    `resume_at` the state is saved and restored, which changes nothing if `restore` is right.
    """
    theta, t, trajectory = theta.double(), 0, []
    m = v = torch.zeros_like(theta)
    for number, g in enumerate(gradients):
        if number == resume_at:
            m, v, t = restore(m, v, t)
        if g is None and without_gradient == "move":
            g = torch.zeros_like(theta)
        if g is not None or without_gradient == "count":
            t += 1
        if g is not None:
            m, v = moments(m, v, gradient(g.double(), theta, weight_decay), *betas)
            c, root = (factor(*betas, t), math.sqrt(1 - betas[1] ** t)) if correct_bias else (1.0, 1.0)
            theta = decay(theta, theta - lr * c * m / denominator(v, eps, root), weight_decay, lr, c)
        trajectory.append(theta)
    return torch.stack(trajectory)

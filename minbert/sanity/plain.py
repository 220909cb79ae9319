"""BERT and AdamW once more, as plain functions in float64 over the published tensors: what a check compares with.

Nothing here comes from the modules under test. The keywords of a function are its places to go wrong: their defaults
are BERT, and mistakes.py lists the values that students give them.

w: published name -> tensor.  B rows, T tokens, D width, H heads of width d; `mask` [B,T] is True at real tokens.
"""

import math

import torch
from torch import Tensor

from minbert.config import BertConfig


def linear(w: dict, name: str, x: Tensor) -> Tensor:
    return x @ w[f"{name}.weight"].double().T + w[f"{name}.bias"].double()


def rows(w: dict, name: str, numbers: Tensor) -> Tensor:
    return w[f"{name}.weight"][numbers].double()


def same(x: Tensor) -> Tensor:
    return x


def layer_norm(w: dict, name: str, x: Tensor, eps: float, *, unbiased: int = 0) -> Tensor:
    x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, correction=unbiased, keepdim=True) + eps).sqrt()
    return x * w[f"{name}.weight"].double() + w[f"{name}.bias"].double()


def embedding(
    w: dict, config: BertConfig, ids: Tensor, segments: Tensor, *,
    tokens=True, positions=True, first_position=0, segment=True, read_segments=True, norm=layer_norm,
) -> Tensor:  # fmt: skip
    """[B,T] ids and segments -> [B,T,D]"""
    x = rows(w, "embeddings.word_embeddings", ids) * tokens
    numbers = (torch.arange(ids.shape[1]) + first_position) % config.max_position_embeddings
    x = x + rows(w, "embeddings.position_embeddings", numbers) * positions
    x = x + rows(w, "embeddings.token_type_embeddings", segments * read_segments) * segment
    return norm(w, "embeddings.LayerNorm", x, config.layer_norm_eps)


def attention_mask(mask: Tensor, *, change=same) -> Tensor:
    """[B,T] -> [B,1,T,T]: 1 where the query (row) may attend to the key (column), else 0"""
    return change(mask.double()[:, None, None, :].expand(-1, 1, mask.shape[1], -1))


def split(x: Tensor, heads: int) -> Tensor:
    """[B,T,D] -> [B,H,T,d]"""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def merge(x: Tensor) -> Tensor:
    """[B,H,T,d] -> [B,T,D]"""
    return x.transpose(1, 2).flatten(2)


def masked_softmax(scores: Tensor, mask: Tensor, axis: int, hidden: float = float("-inf")) -> Tensor:
    return scores.where(mask, hidden).softmax(axis)


def attention(
    w: dict, config: BertConfig, number: int, h: Tensor, mask: Tensor, *,
    roles=("query", "key", "value"), split=split, divisor=lambda d, width: math.sqrt(d),
    softmax=masked_softmax, axis=-1, merge=merge, project=True,
) -> Tensor:  # fmt: skip
    """The attention of layer `number`, output projection included: [B,T,D] -> [B,T,D]"""
    name = f"encoder.layer.{number}.attention"
    q, k, v = (split(linear(w, f"{name}.self.{role}", h), config.num_attention_heads) for role in roles)
    scores = q @ k.mT / divisor(q.shape[-1], h.shape[-1])
    x = merge(softmax(scores, mask[:, None, None, :], axis) @ v)
    return linear(w, f"{name}.output.dense", x) if project else x


def gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.erf(x / math.sqrt(2))) / 2


def feed_forward(w: dict, config: BertConfig, number: int, a: Tensor, *, activation=gelu, last=same) -> Tensor:
    """The feed-forward of layer `number`: [B,T,D] -> [B,T,D]"""
    name = f"encoder.layer.{number}"
    return last(linear(w, f"{name}.output.dense", activation(linear(w, f"{name}.intermediate.dense", a))))


def norm_name(number: int, half: int) -> str:
    """The LayerNorm after the attention (half 0) or after the feed-forward (half 1) of layer `number`."""
    return f"encoder.layer.{number}." + ("attention.output.LayerNorm", "output.LayerNorm")[half]


def attention_input(w: dict, config: BertConfig, number: int, h: Tensor, *, norm_of_half=None) -> Tensor:
    """What layer `number` hands to its attention: its own input, untouched."""
    return h if norm_of_half is None else layer_norm(w, norm_name(number, norm_of_half), h, config.layer_norm_eps)


def add_norm(
    w: dict, config: BertConfig, number: int, half: int, x: Tensor, y: Tensor, h: Tensor, *,
    add=lambda x, y, h: x + y, norm=layer_norm, other_norm=False, after=lambda x: 0,
) -> Tensor:  # fmt: skip
    """LN(x + y): x is what half 0 (attention) or 1 (feed-forward) was given, y what it gave, h the layer's input."""
    name = norm_name(number, 1 - half if other_norm else half)
    return after(x) + norm(w, name, add(x, y, h), config.layer_norm_eps)


def pooler(w: dict, h: Tensor, *, pick=lambda h: h[:, 0], dense=True, activation=torch.tanh) -> Tensor:
    """[B,T,D] -> [B,D]"""
    return activation(linear(w, "pooler.dense", pick(h)) if dense else pick(h))


def layer(w: dict, config: BertConfig, number: int, h: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What each part of layer `number` gives, by the published name of the part; the last is the layer's output."""
    name, out = f"encoder.layer.{number}", {}
    out[f"{name}.attention.output.dense"] = y = attention(w, config, number, h, mask)
    out[f"{name}.attention.output"] = a = add_norm(w, config, number, 0, h, y, h)
    out[f"{name}.output.dense"] = y = feed_forward(w, config, number, a)
    out[f"{name}.output"] = add_norm(w, config, number, 1, a, y, h)
    return out


def activations(w: dict, config: BertConfig, ids: Tensor, mask: Tensor, segments: Tensor) -> dict[str, Tensor]:
    """What every part of the model gives, by the published name of the part."""
    out = {"embeddings": embedding(w, config, ids, segments)}
    for number in range(config.num_hidden_layers):
        out |= layer(w, config, number, list(out.values())[-1], mask)
    return out | {"pooler": pooler(w, list(out.values())[-1])}


def hidden_states(
    w: dict, config: BertConfig, ids: Tensor, mask: Tensor, segments: Tensor, *,
    read_mask=True, read_segments=True, order=same, chained=True, first=0,
) -> Tensor:  # fmt: skip
    """[L+1,B,T,D]: the embedding, then the output of each layer"""
    hidden = [embedding(w, config, ids, segments * read_segments)]
    for number in order(range(config.num_hidden_layers)):
        out = layer(w, config, number, hidden[-1 if chained else 0], mask if read_mask else torch.ones_like(mask))
        hidden.append(list(out.values())[-1])
    return torch.stack(hidden[first:])


def moments(m: Tensor, v: Tensor, g: Tensor, beta1: float, beta2: float) -> tuple[Tensor, Tensor]:
    return beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g * g


def correction(beta1: float, beta2: float, t: int) -> float:
    return math.sqrt(1 - beta2**t) / (1 - beta1**t)


def decay(theta: Tensor, moved: Tensor, weight_decay: float, lr: float, c: float) -> Tensor:
    """`theta` is the parameter before Adam's step, `moved` after it, `c` the correction of the step."""
    return moved - lr * weight_decay * moved


def adam(
    theta: Tensor, gradients: list[Tensor | None], lr, betas, eps, weight_decay, correct_bias, resume_at=None, *,
    moments=moments, factor=correction, denominator=lambda v, eps, root: v.sqrt() + eps, sign=-1, l2=False,
    decay=decay, skip=True, count_skipped=False, lost="",
) -> Tensor:  # fmt: skip
    """The parameter after each of S steps: [S,...]. Without a gradient it stays as it is, and its step count too.

    At step `resume_at` the state is saved and restored, which changes nothing, unless parts of it are `lost`.
    """
    theta, t, out = theta.double(), 0, []
    m = v = torch.zeros_like(theta)
    for number, g in enumerate(gradients):
        if number == resume_at:
            m, v, t = m * ("m" not in lost), v * ("v" not in lost), t * ("t" not in lost)
        t += g is not None or count_skipped
        if g is not None or not skip:
            g = (torch.zeros_like(theta) if g is None else g.double()) + l2 * weight_decay * theta
            m, v = moments(m, v, g, *betas)
            c, root = (factor(*betas, t), math.sqrt(1 - betas[1] ** t)) if correct_bias else (1.0, 1.0)
            moved = theta + sign * lr * c * m / denominator(v, eps, root)
            theta = decay(theta, moved, weight_decay, lr, c)
        out.append(theta)
    return torch.stack(out)

"""The mistakes that students make, in words, each with the keywords of plain.py that make it.

One in words may be listed twice, where it can be made in two ways. A check tries all of a step's mistakes, and
all pairs of them, and names those that give the student's numbers.
"""

import itertools
import math

import torch
from torch import Tensor

from minbert.sanity import plain

Mistakes = list[tuple[str, dict]]


def norm_with_eps(eps: float):
    return lambda w, name, x, _: plain.layer_norm(w, name, x, eps)


def unbiased_norm(w: dict, name: str, x: Tensor, eps: float) -> Tensor:
    return plain.layer_norm(w, name, x, eps, unbiased=1)


NORM: Mistakes = [
    ("LayerNorm is missing", {"norm": lambda w, name, x, eps: x}),
    ("LayerNorm's eps is torch's default 1e-5, not config.json's", {"norm": norm_with_eps(1e-5)}),
    ("LayerNorm's eps is 1e-6, not config.json's", {"norm": norm_with_eps(1e-6)}),
    ("LayerNorm's eps is 1e-12, not config.json's", {"norm": norm_with_eps(1e-12)}),
    ("LayerNorm divides the squares by D - 1, not by D", {"norm": unbiased_norm}),
]

EMBEDDING: Mistakes = [
    ("the token embeddings are not added", {"tokens": False}),
    ("the position embeddings are not added", {"positions": False}),
    ("the positions are counted from 1, not from 0", {"first_position": 1}),
    ("the segment embeddings are not added", {"segment": False}),
    ("token_type_ids are ignored: every token is in segment 0", {"read_segments": False}),
    *NORM,
]

MASK: Mistakes = [
    ("the mask is inverted: it hides the real tokens, not the padding", {"change": lambda x: 1 - x}),
    ("nothing is masked", {"change": torch.ones_like}),
    ("the mask lies along the queries, [B,1,T,1], not along the keys, [B,1,1,T]", {"change": lambda x: x.mT}),
]


def unswapped_split(x: Tensor, heads: int) -> Tensor:
    return x.reshape(x.shape[0], heads, x.shape[1], -1)


def unswapped_merge(x: Tensor) -> Tensor:
    return x.reshape(x.shape[0], x.shape[2], -1)


def mildly_masked_softmax(scores: Tensor, mask: Tensor, axis: int) -> Tensor:
    """With -10000 for -∞. Over the keys that is the same; over another axis it gives numbers, where -∞ gives NaN."""
    return plain.masked_softmax(scores, mask, axis, -1e4)


def multiplied_infinity(scores: Tensor, mask: Tensor, axis: int) -> Tensor:
    return (scores + (~mask) * -math.inf).softmax(axis)


def causal_softmax(scores: Tensor, mask: Tensor, axis: int) -> Tensor:
    return plain.masked_softmax(scores, mask & torch.ones_like(scores, dtype=torch.bool).tril(), axis)


ROLES = ("query", "key", "value")
ATTENTION: Mistakes = [
    ("the scores are not divided by √d", {"divisor": lambda d, width: 1}),
    ("the scores are divided by √D, not by the √d of one head", {"divisor": lambda d, width: math.sqrt(width)}),
    ("the scores are divided by d, not by √d", {"divisor": lambda d, width: d}),
    ("the mask is ignored", {"softmax": lambda s, mask, axis: s.softmax(axis)}),
    ("the mask is inverted", {"softmax": lambda s, mask, axis: plain.masked_softmax(s, ~mask, axis)}),
    ("masked scores are set to 0, not to -∞", {"softmax": lambda s, mask, axis: (s * mask).softmax(axis)}),
    (
        "the mask's 0 and 1 are added to the scores",
        {"softmax": lambda s, mask, axis: (s + mask.double()).softmax(axis)},
    ),
    ("the mask is (1 - mask)·(-∞), and 0·(-∞) is NaN", {"softmax": multiplied_infinity}),
    ("the mask is applied after the softmax, not before", {"softmax": lambda s, mask, axis: s.softmax(axis) * mask}),
    ("the mask is causal, as in a decoder", {"softmax": causal_softmax}),
    *(
        ("the softmax runs over the wrong axis, not over the keys (the last)", {"axis": axis, "softmax": softmax})
        for axis, softmax in itertools.product((-2, 1), (plain.masked_softmax, mildly_masked_softmax))
    ),
    ("the heads are split without swapping axes: [B,T,D] is viewed as [B,H,T,d]", {"split": unswapped_split}),
    ("the heads are merged without swapping axes back: [B,H,T,d] is viewed as [B,T,D]", {"merge": unswapped_merge}),
    ("the output projection is missing", {"project": False}),
    *(
        (f"query, key, value are mixed up: they are the projections {', '.join(roles)}", {"roles": roles})
        for roles in itertools.product(ROLES, repeat=3)
        if roles != ROLES
    ),
]


def tanh_gelu(x: Tensor) -> Tensor:
    return x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


FEED_FORWARD: Mistakes = [
    ("the GELU is its tanh approximation, not the exact one (erf)", {"activation": tanh_gelu}),
    (
        "the GELU is its approximation x·σ(1.702x), not the exact one",
        {"activation": lambda x: x * (1.702 * x).sigmoid()},
    ),
    ("the activation is ReLU, not GELU", {"activation": torch.relu}),
    ("the activation is SiLU, not GELU", {"activation": lambda x: x * x.sigmoid()}),
    ("there is no activation between the projections", {"activation": plain.same}),
    ("an activation follows the second projection", {"last": plain.gelu}),
]

ATTENTION_INPUT: Mistakes = [
    ("the layer is pre-norm: LayerNorm comes before the attention, not after the residual", {"norm_of_half": half})
    for half in (0, 1)
]

ADD_NORM: Mistakes = [
    ("the residual is missing (or y itself, which is the same): LN(y), not LN(x + y)", {"add": lambda x, y, h: y}),
    ("only the residual is there: LN(x), not LN(x + y)", {"add": lambda x, y, h: x}),
    ("the residual is the wrong tensor: the layer's input, not the feed-forward's", {"add": lambda x, y, h: h + y}),
    ("LayerNorm comes before the residual: x + LN(y), not LN(x + y)", {"add": lambda x, y, h: y, "after": plain.same}),
    ("the LayerNorm is the one of the layer's other half", {"other_norm": True}),
    *NORM,
]

POOLER: Mistakes = [
    ("tanh is missing", {"activation": plain.same}),
    ("the activation is ReLU, not tanh", {"activation": torch.relu}),
    ("the last token is pooled, not the first ([CLS])", {"pick": lambda h: h[:, -1]}),
    ("the mean of the tokens is pooled, not the first ([CLS])", {"pick": lambda h: h.mean(1)}),
    ("the maximum over the tokens is pooled, not the first ([CLS])", {"pick": lambda h: h.amax(1)}),
    ("every token is pooled, not the first ([CLS]) alone", {"pick": plain.same}),
    ("the pooler's projection is missing", {"dense": False}),
]

MODEL: Mistakes = [
    ("attention_mask does not reach the layers", {"read_mask": False}),
    ("token_type_ids do not reach the embedding", {"read_segments": False}),
    ("the layers run in the wrong order", {"order": reversed}),
    ("one layer runs again and again", {"order": lambda numbers: [0] * len(numbers)}),
    ("every layer is given the embedding, not the output of the layer before", {"chained": False}),
    ("the last layer is left out", {"order": lambda numbers: numbers[:-1]}),
    ("hidden_states lacks the embedding", {"first": 1}),
]

LAST: Mistakes = [("it is the embedding, not the output of the last layer", {"number": 0})]
POOLED: Mistakes = [("the embedding is pooled, not the output of the last layer", {"number": 0})]


def swapped_moments(m: Tensor, v: Tensor, g: Tensor, beta1: float, beta2: float):
    return plain.moments(m, v, g, beta2, beta1)


def unscaled_moments(m: Tensor, v: Tensor, g: Tensor, beta1: float, beta2: float):
    return beta1 * m + g, beta2 * v + g * g


def unsquared_moments(m: Tensor, v: Tensor, g: Tensor, beta1: float, beta2: float):
    return beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g


def correction_from_0(beta1: float, beta2: float, t: int) -> float:
    return plain.correction(beta1, beta2, t - 1) if t > 1 else math.nan  # 0/0


# In ADAM p is the parameter before Adam's step and q the one after it.
ADAM: Mistakes = [
    ("bias is corrected although correct_bias is off", {"correct_bias": True}),
    ("bias is not corrected although correct_bias is on", {"correct_bias": False}),
    ("steps are counted from 0: the first has t = 1, and 1 - β⁰ is 0", {"factor": correction_from_0}),
    ("the correction is upside down", {"factor": lambda b1, b2, t: 1 / plain.correction(b1, b2, t)}),
    ("the correction lacks its root: 1 - β₂ᵗ, not √(1 - β₂ᵗ)",
     {"factor": lambda b1, b2, t: (1 - b2**t) / (1 - b1**t)}),
    ("only m is corrected, not v", {"factor": lambda b1, b2, t: 1 / (1 - b1**t)}),
    ("only v is corrected, not m", {"factor": lambda b1, b2, t: math.sqrt(1 - b2**t)}),
    ("eps is added after the correction of v (torch's way), not to √v itself",
     {"denominator": lambda v, eps, root: v.sqrt() + eps * root}),
    ("eps is added under the root: √(v + eps), not √v + eps", {"denominator": lambda v, eps, root: (v + eps).sqrt()}),
    ("eps is left out", {"denominator": lambda v, eps, root: v.sqrt()}),
    ("the root is forgotten: m / (v + eps), not m / (√v + eps)", {"denominator": lambda v, eps, root: v + eps}),
    ("the betas are swapped", {"moments": swapped_moments}),
    ("the moments lack their 1 - β", {"moments": unscaled_moments}),
    ("v averages g, not g²", {"moments": unsquared_moments}),
    ("the step goes up the gradient, not down", {"sign": 1}),
    ("weight decay is not applied", {"weight_decay": 0.0}),
    ("decay is added to the gradient (L2), not taken from the parameter",
     {"l2": True, "decay": lambda p, q, wd, lr, c: q}),
    ("decay is not times lr", {"decay": lambda p, q, wd, lr, c: q - wd * q}),
    ("decay comes before the step, not after it", {"decay": lambda p, q, wd, lr, c: q - lr * wd * p}),
    ("decay is scaled by the bias correction", {"decay": lambda p, q, wd, lr, c: q - lr * c * wd * q}),
    ("decay is scaled by the bias correction", {"decay": lambda p, q, wd, lr, c: q - lr * c * wd * p}),
    ("a parameter without a gradient moves on", {"skip": False, "count_skipped": True}),
    ("steps are counted for all parameters at once, also where one has no gradient", {"count_skipped": True}),
    ("the settings of the first group are used for every group", {"read_groups": False}),
]  # fmt: skip

RESUMED: Mistakes = [
    (f"{what} not kept in self.state, and so not saved", {"lost": lost})
    for what, lost in (("the step count is", "t"), ("the moments are", "mv"), ("moments and step count are", "mvt"))
]

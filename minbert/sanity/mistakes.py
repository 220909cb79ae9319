"""The common mistakes of each step: the cause in words, and the keywords of plain.py that make the mistake.

A check computes the step with each of these mistakes and names the mistake that gives the numbers under test.
A cause appears twice if there are two ways to make the mistake.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F

from minbert.sanity import plain
from minbert.sanity.plain import masked_softmax, post_norm

Mistakes = list[tuple[str, dict]]

NORM = [
    ("LayerNorm is missing", lambda norm, x: x),
    ("LayerNorm's eps is 1e-5 (the default of torch), not config.json's", lambda norm, x: norm(x, eps=1e-5)),
    ("LayerNorm's eps is 1e-12, not config.json's", lambda norm, x: norm(x, eps=1e-12)),
    ("LayerNorm divides the squares by D - 1, not by D", lambda norm, x: norm(x, correction=1)),
]

EMBEDDING: Mistakes = [
    ("the token embeddings are not added", {"add": lambda token, position, segment: position + segment}),
    ("the position embeddings are not added", {"add": lambda token, position, segment: token + segment}),
    ("the segment embeddings are not added", {"add": lambda token, position, segment: token + position}),
    ("the positions are counted from 1, not from 0", {"first_position": 1}),
    ("token_type_ids are ignored: every token is in segment 0", {"segments": torch.zeros_like}),
    *((cause, {"norm": mistake}) for cause, mistake in NORM),
]

MASK: Mistakes = [
    ("the mask is inverted: it hides the real tokens, not the padding", {"change": lambda mask: 1 - mask}),
    ("nothing is masked", {"change": torch.ones_like}),
    ("the mask hides queries, [B,1,T,1], not keys, [B,1,1,T]", {"change": lambda mask: mask.mT}),
]

ATTENTION: Mistakes = [
    ("the scores are not divided by √d", {"divisor": lambda d, width: 1}),
    ("the scores are divided by √D, not by the √d of one head", {"divisor": lambda d, width: math.sqrt(width)}),
    ("the mask is ignored", {"softmax": lambda scores, mask: scores.softmax(-1)}),
    ("the mask is inverted", {"softmax": lambda scores, mask: masked_softmax(scores, ~mask)}),
    ("masked scores are set to 0, not to -∞", {"softmax": partial(masked_softmax, hidden=0.0)}),
    ("the mask's 0 and 1 are added to the scores", {"softmax": lambda scores, mask: (scores + mask).softmax(-1)}),
    ("the mask is (1 - mask)·(-∞), and 0·(-∞) is NaN",
     {"softmax": lambda scores, mask: (scores + (1 - mask.double()) * -math.inf).softmax(-1)}),
    ("the mask is applied after the softmax, not before", {"softmax": lambda scores, mask: scores.softmax(-1) * mask}),
    # With -∞ a wrong axis gives NaN, because a padded key is hidden along that whole axis. With -10000 it does not.
    *((f"the softmax runs over {name}, not over the keys (the last axis)",
       {"softmax": partial(masked_softmax, axis=axis, hidden=hidden)})
      for axis, name in ((-2, "the queries"), (1, "the heads")) for hidden in (-math.inf, -1e4)),
    ("the heads are split without swapping axes: [B,T,D] is viewed as [B,H,T,d]",
     {"split": lambda x, heads: x.reshape(x.shape[0], heads, x.shape[1], -1)}),
    ("the heads are merged without swapping axes back: [B,H,T,d] is viewed as [B,T,D]",
     {"merge": lambda x: x.reshape(x.shape[0], x.shape[2], -1)}),
    ("the output projection is missing", {"project": lambda r, name, x: x}),
    *((f"the projections {roles} are used as query, key, value", {"roles": roles.split(", ")})
      for roles in ("key, query, value", "query, value, key", "query, key, key", "query, query, value")),
]  # fmt: skip

FEED_FORWARD: Mistakes = [
    ("the GELU is its tanh approximation, not exact (erf)", {"activation": partial(F.gelu, approximate="tanh")}),
    ("the activation is ReLU, not GELU", {"activation": torch.relu}),
    ("there is no activation between the projections", {"activation": plain.same}),
]  # fmt: skip


def pre_norm(h, attend, feed_forward, norm_1, norm_2):
    a = h + attend(norm_1(h))
    return a + feed_forward(norm_2(a))


def wrong_residual(h, attend, feed_forward, norm_1, norm_2):
    return norm_2(h + feed_forward(norm_1(h + attend(h))))


ADD_NORM = [
    ("the residual is missing: LN(y), not LN(x + y)", lambda norm, x, y: norm(y)),
    ("only the residual is there: LN(x), not LN(x + y)", lambda norm, x, y: norm(x)),
    ("LayerNorm comes before the residual: x + LN(y), not LN(x + y)", lambda norm, x, y: x + norm(y)),
    *((cause, lambda norm, x, y, mistake=mistake: mistake(norm, x + y)) for cause, mistake in NORM),
]
HALVES = [("after the attention", ["first"]), ("after the feed-forward", ["second"]), ("twice", ["first", "second"])]
LAYER: Mistakes = [
    *((f"{cause} ({half})", {"connect": partial(post_norm, **dict.fromkeys(keywords, mistake))})
      for cause, mistake in ADD_NORM for half, keywords in HALVES),
    ("the layer is pre-norm: x + Attention(LN(x)), not LN(x + Attention(x))", {"connect": pre_norm}),
    ("the second residual is the layer's input, not the feed-forward's input", {"connect": wrong_residual}),
    ("the two LayerNorms are swapped", {"connect": lambda h, *parts: post_norm(h, *parts[:2], parts[3], parts[2])}),
    ("the mask does not reach the attention", {"mask": torch.ones_like}),
]  # fmt: skip

POOLER: Mistakes = [
    ("tanh is missing", {"activation": plain.same}),
    ("the last token is pooled, not the first ([CLS])", {"pick": lambda h: h[:, -1]}),
    ("the mean of the tokens is pooled, not the first ([CLS])", {"pick": lambda h: h.mean(1)}),
    ("the pooler's projection is missing", {"project": lambda r, name, x: x}),
]

MODEL: Mistakes = [
    ("attention_mask does not reach the layers", {"mask": torch.ones_like}),
    ("token_type_ids do not reach the embedding", {"segments": torch.zeros_like}),
    ("the layers run in the wrong order", {"order": reversed}),
    ("every layer gets the embedding, not the output of the layer before", {"given": 0}),
    ("hidden_states lacks the embedding", {"first": 1}),
    ("last_hidden_state is the embedding, not the output of the last layer", {"last": 0}),
]

POOLED: Mistakes = [("the embedding is pooled, not the output of the last layer", {})]

ADAM: Mistakes = [
    ("bias is corrected although correct_bias is off", {"correct_bias": True}),
    ("bias is not corrected although correct_bias is on", {"correct_bias": False}),
    ("steps are counted from 0: the first has t = 1, and 1 - β⁰ is 0",
     {"factor": lambda b1, b2, t: plain.correction(b1, b2, t - 1) if t > 1 else math.nan}),
    ("the correction lacks its root: 1 - β₂ᵗ, not √(1 - β₂ᵗ)", {"factor": lambda b1, b2, t: (1 - b2**t) / (1 - b1**t)}),
    ("eps is added after the correction of v (as in torch), not to √v itself",
     {"denominator": lambda v, eps, root: v.sqrt() + eps * root}),
    ("eps is added under the root: √(v + eps), not √v + eps", {"denominator": lambda v, eps, root: (v + eps).sqrt()}),
    ("eps is left out", {"denominator": lambda v, eps, root: v.sqrt()}),
    ("the root is forgotten: m / (v + eps), not m / (√v + eps)", {"denominator": lambda v, eps, root: v + eps}),
    ("the betas are swapped",
     {"moments": lambda m, v, g, b1, b2: plain.moments(m, v, g, b2, b1),
      "factor": lambda b1, b2, t: plain.correction(b2, b1, t)}),
    ("the step goes up the gradient, not down", {"gradient": lambda g, theta, wd: -g}),
    ("weight decay is not applied", {"decay": lambda p, q, wd, lr, c: q}),
    ("weight decay is added to the gradient (L2), not taken from the parameter",
     {"gradient": lambda g, theta, wd: g + wd * theta, "decay": lambda p, q, wd, lr, c: q}),
    ("weight decay is not multiplied by lr", {"decay": lambda p, q, wd, lr, c: q - wd * q}),
    ("weight decay comes before the step, not after it", {"decay": lambda p, q, wd, lr, c: q - lr * wd * p}),
    ("a parameter without a gradient moves on", {"without_gradient": "move"}),
    ("t goes on for a parameter that has no gradient in a step", {"without_gradient": "count"}),
    ("the settings of the first group are used for every group", {"group_of": lambda number: 0}),
]  # fmt: skip

RESUMED: Mistakes = [
    ("the moments are not in self.state, and so not saved", {"restore": lambda m, v, t: (0 * m, 0 * v, t)}),
    ("moments and step count are not in self.state, and so not saved", {"restore": lambda m, v, t: (0 * m, 0 * v, 0)}),
]

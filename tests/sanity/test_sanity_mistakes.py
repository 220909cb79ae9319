"""Every known mistake, made in the real code as a student would, is found at its step and named.

A mistake is made by editing the source of a method of ours, independently of how sanity computes it.
"""

import inspect
import sys
import textwrap
from dataclasses import replace

import pytest
import torch
from support.factories import CONFIG

from minbert import bert, sanity
from minbert.attention import SelfAttention
from minbert.bert import BertModel
from minbert.embeddings import Embeddings
from minbert.layers import FeedForward, Layer
from minbert.optimizer import AdamW
from minbert.sanity import mistakes


def edit(monkeypatch, owner, name: str, old: str, new: str) -> None:
    """Replace `old` by `new` in the source of a method or of a module's function."""
    source = textwrap.dedent(SOURCES.get((owner, name)) or inspect.getsource(getattr(owner, name)))
    assert old in source, f"{name} has changed: {old!r} is no longer in it"
    source = source.replace(old, new).replace("super()", "super(owner, self)")
    namespace = {**vars(sys.modules[getattr(owner, "__module__", owner.__name__)]), "owner": owner}
    exec(source, namespace)
    monkeypatch.setitem(SOURCES, (owner, name), source)
    monkeypatch.setattr(owner, name, namespace[name])


SOURCES = {}  # of what this test has edited already

EMBED, EXPLICIT, LAYER = (Embeddings, "forward"), (SelfAttention, "explicit"), (Layer, "forward")
FEED, POOL, FORWARD, UPDATE = (FeedForward, "forward"), (BertModel, "pool"), (BertModel, "forward"), (AdamW, "update")
MASK, STEP, ADVANCE = (bert, "attendable"), (AdamW, "step"), (AdamW, "advance")
SLOW = (SelfAttention, "forward", 'if p and h.device.type == "cpu":', "if True:")  # forward is explicit
HIDE, SOFTMAX = '.masked_fill(~mask, float("-inf"))', ".softmax(dim=-1)"
QKV = "self.split(self.query(h)), self.split(self.key(h)), self.split(self.value(h))"
ATTEND, FEEDS = "h + self.attention(h, mask, task)", "h + self.feed_forward(h, task)"
C, ROOT2 = 'bias_correction(s["step"], *betas)', 'math.sqrt(1 - beta2 ** s["step"])'
ADD_EPS, ROOT = "torch._foreach_add_(denominator, eps)", "torch._foreach_sqrt(v)"
GRADS, DECAY, NO_DECAY = "[p.grad for p in params]", "1 - lr * weight_decay", (*UPDATE, "if weight_decay:", "if False:")
MOVE, TENSOR = "torch._foreach_addcdiv_(params", "torch.tensor(1.0 - {} ** (s['step'] - 1))"
OWN = "vars(self).setdefault('own', {})"  # where self.state does not see it
UNBIASED = "(x - x.mean(-1, keepdim=True)) / x.std(-1, keepdim=True)"


def norm_edits(step: str, norm: str, init: tuple, forward: tuple) -> list:
    """The mistakes with one LayerNorm, which the method `forward` calls and `init` makes."""
    made = f"self.{norm} = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)"
    own = f"(lambda x: self.{norm}.weight * {UNBIASED} + self.{norm}.bias)("
    return [
        (step, "LayerNorm is missing", [(*forward, f"self.{norm}(", "(")]),
        (step, "LayerNorm divides the squares by D - 1, not by D", [(*forward, f"self.{norm}(", own)]),
        (step, "torch's default 1e-5", [(*init, made, f"self.{norm} = nn.LayerNorm(config.hidden_size)")]),
        (step, "eps is 1e-6", [(*init, made, made.replace("config.layer_norm_eps", "1e-6"))]),
    ]


EDITS = [
    *[("embedding", cause, [(*EMBED, old, new)]) for cause, old, new in [
        ("the token embeddings are not added", "tokens + positions", "positions"),
        ("the position embeddings are not added", "tokens + positions", "tokens"),
        ("the positions are counted from 1", "[: input_ids.shape[1]]", "[1 : input_ids.shape[1] + 1]"),
        ("the segment embeddings are not added", " + self.segment(token_type_ids)", ""),
        ("token_type_ids are ignored", "if token_type_ids is None:", "if True:"),
    ]],
    *norm_edits("embedding", "norm", (Embeddings, "__init__"), EMBED),
    *[("attention mask", cause, [(*MASK, old, new)]) for cause, old, new in [
        ("the mask is inverted: it hides the real", "attention_mask.bool()", "(attention_mask == 0)"),
        ("nothing is masked", "attention_mask.bool()", "torch.ones_like(attention_mask, dtype=torch.bool)"),
        ("the mask lies along the queries", "[:, None, None, :]", "[:, None, :, None]"),
    ]],
    *[("layer 0 attention", cause, [SLOW, (*EXPLICIT, old, new)]) for cause, old, new in [
        ("the scores are not divided by √d", " / math.sqrt(q.shape[-1])", ""),
        ("the scores are divided by √D", "math.sqrt(q.shape[-1])", "math.sqrt(h.shape[-1])"),
        ("the scores are divided by d,", "math.sqrt(q.shape[-1])", "q.shape[-1]"),
        ("the mask is ignored", HIDE, ""),
        ("the mask is inverted", "~mask", "mask"),
        ("masked scores are set to 0", 'float("-inf")', "0.0"),
        ("the mask's 0 and 1 are added", "scores" + HIDE, "(scores + mask)"),
        ("the mask is (1 - mask)·(-∞)", "scores" + HIDE, "(scores + (1.0 - mask.float()) * -math.inf)"),
        ("the mask is applied after", HIDE + SOFTMAX, SOFTMAX + " * mask"),
        ("the mask is causal", "~mask", "~mask | scores.new_ones(scores.shape[-2:]).triu(1).bool()"),
        ("the softmax runs over the wrong axis", "dim=-1", "dim=-2"),
        ("the softmax runs over the wrong axis", "dim=-1", "dim=1"),
        ("the softmax runs over the wrong axis", '"-inf")).softmax(dim=-1', '"-1e4")).softmax(dim=-2'),
        ("the softmax runs over the wrong axis", '"-inf")).softmax(dim=-1', '"-1e4")).softmax(dim=1'),
        ("the output projection is missing", "self.output(self.merge(x))", "self.merge(x)"),
        *[(cause, QKV, ", ".join(f"self.split(self.{role}(h))" for role in keywords["roles"]))
          for cause, keywords in mistakes.ATTENTION if "roles" in keywords],
    ]],
    ("layer 0 attention", "the heads are split without", [(SelfAttention, "split", "x.unflatten(-1, (self.heads, -1))"
     ".transpose(1, 2)", "x.reshape(len(x), self.heads, x.shape[1], -1)")]),
    ("layer 0 attention", "the heads are merged without", [(SelfAttention, "merge", "x.transpose(1, 2).flatten(2)",
     "x.reshape(len(x), x.shape[2], -1)")]),
    ("layer 0 attention, explicit", "the scores are not divided", [(*EXPLICIT, " / math.sqrt(q.shape[-1])", "")]),
    *[("layer 0 feed-forward", cause, [(*FEED, "self.down(F.gelu(self.up(h)))", new)]) for cause, new in [
        ("the GELU is its tanh approximation", "self.down(F.gelu(self.up(h), approximate='tanh'))"),
        ("the GELU is its approximation x·σ", "self.down((lambda u: u * (1.702 * u).sigmoid())(self.up(h)))"),
        ("the activation is ReLU, not GELU", "self.down(F.relu(self.up(h)))"),
        ("the activation is SiLU", "self.down(F.silu(self.up(h)))"),
        ("there is no activation", "self.down(self.up(h))"),
        ("an activation follows the second", "F.gelu(self.down(F.gelu(self.up(h))))"),
    ]],
    *[("layer 0 input of attention", "the layer is pre-norm", [
        (*LAYER, f"self.attention_norm({ATTEND})", f"h + self.attention(self.{norm}(h), mask, task)"),
        (*LAYER, f"self.feed_forward_norm({FEEDS})", "h + self.feed_forward(self.feed_forward_norm(h), task)"),
    ]) for norm in ("attention_norm", "feed_forward_norm")],
    *[(f"layer 0 residual + LayerNorm {half}", cause, [(*LAYER, old, new)]) for half, norm, other, inner in [
        (1, "attention_norm", "feed_forward_norm", ATTEND), (2, "feed_forward_norm", "attention_norm", FEEDS)
    ] for cause, old, new in [
        ("the residual is missing", inner, inner[4:]),
        ("only the residual is there", inner, inner.replace("+", "+ 0 *")),
        ("the residual is missing", inner, f"2 * {inner[4:]}"),
        ("LayerNorm comes before the residual", f"{norm}({inner})", f"{norm}({inner[4:]}) + h"),
        ("the LayerNorm is the one of the layer's other half", norm, other),
    ]],
    ("layer 0 residual + LayerNorm 2", "the residual is the wrong tensor: the layer's input", [
        (*LAYER, "h = self.attention_norm", "x, h = h, self.attention_norm"),
        (*LAYER, FEEDS, FEEDS.replace("h", "x", 1))]),
    *norm_edits("layer 0 residual + LayerNorm 1", "attention_norm", (Layer, "__init__"), LAYER),
    *norm_edits("layer 0 residual + LayerNorm 2", "feed_forward_norm", (Layer, "__init__"), LAYER),
    *[("pooler", cause, [(*POOL, "torch.tanh(self.pooler(h[:, 0]))", new)]) for cause, new in [
        ("tanh is missing", "self.pooler(h[:, 0])"),
        ("the activation is ReLU, not tanh", "torch.relu(self.pooler(h[:, 0]))"),
        ("the last token is pooled", "torch.tanh(self.pooler(h[:, -1]))"),
        ("the mean of the tokens is pooled", "torch.tanh(self.pooler(h.mean(1)))"),
        ("the maximum over the tokens", "torch.tanh(self.pooler(h.max(1).values))"),
        ("every token is pooled", "torch.tanh(self.pooler(h))"),
        ("the pooler's projection is missing", "torch.tanh(h[:, 0])"),
    ]],
    *[("whole model, hidden states", cause, [(*FORWARD, old, new)]) for cause, old, new in [
        ("attention_mask does not reach", "layer(hidden[-1], mask)", "layer(hidden[-1], torch.ones_like(mask))"),
        ("token_type_ids do not reach", "(input_ids, token_type_ids)", "(input_ids)"),
        ("the layers run in the wrong order", "in self.layers", "in reversed(self.layers)"),
        ("one layer runs again and again", "in self.layers", "in [self.layers[0]] * len(self.layers)"),
        ("every layer is given the embedding", "layer(hidden[-1]", "layer(hidden[0]"),
        ("the last layer is left out", "in self.layers", "in self.layers[:-1]"),
        ("hidden_states lacks the embedding", "tuple(hidden)", "tuple(hidden[1:])"),
    ]],
    ("whole model, last hidden state", "it is the embedding", [(*FORWARD, "Encoded(hidden[-1]", "Encoded(hidden[0]")]),
    ("whole model, pooler output", "the embedding is pooled", [(*FORWARD, "pool(hidden[-1])", "pool(hidden[0])")]),
    ("optimizer without bias correction", "bias is corrected although", [(*UPDATE, "if correct_bias", "if True")]),
    *[("optimizer with bias correction", cause, [(*UPDATE, old, new)]) for cause, old, new in [
        ("bias is not corrected although", "if correct_bias", "if False"),
        ("steps are counted from 0", C, 'bias_correction(s["step"] - 1, *betas)'),
        ("steps are counted from 0", C, f"({TENSOR.format('beta2')}.sqrt() / {TENSOR.format('beta1')}).item()"),
        ("the correction is upside down", C, f"1 / {C}"),
        ("the correction lacks its root", C, f"{ROOT2} * {C}"),
        ("only m is corrected", C, '1 / (1 - beta1 ** s["step"])'),
        ("only v is corrected", C, ROOT2),
        ("eps is added after the correction", ADD_EPS,
         f"denominator = [d + eps * ({ROOT2} if correct_bias else 1) for d, s in zip(denominator, states)]"),
        ("eps is left out", ADD_EPS, "pass"),
        ("the root is forgotten", ROOT, "[x.clone() for x in v]"),
        ("the betas are swapped", "beta1, beta2 = betas", "beta2, beta1 = betas"),
        ("v averages g, not g²", "addcmul_(v, grads, grads, 1 - beta2)", "add_(v, grads, alpha=1 - beta2)"),
        ("the step goes up the gradient", "[-lr *", "[lr *"),
    ]],
    ("optimizer with bias correction", "eps is added under the root", [
        (*UPDATE, ROOT, "torch._foreach_sqrt([x + eps for x in v])"), (*UPDATE, ADD_EPS, "pass")]),
    ("optimizer with bias correction", "the moments lack their 1 - β", [
        (*UPDATE, "torch._foreach_lerp_(m, grads, 1 - beta1)", "m[0].mul_(beta1).add_(grads[0])"),
        (*UPDATE, "grads, grads, 1 - beta2", "grads, grads, 1.0")]),
    ("optimizer with bias correction", "a parameter without a gradient moves on", [
        (*STEP, "if p.grad is not None]", "]"),
        (*UPDATE, GRADS, "[torch.zeros_like(p) if p.grad is None else p.grad for p in params]")]),
    ("optimizer with bias correction", "steps are counted for all parameters at once", [
        (*STEP, "params = [p", "[self.advance(p) for p in group['params'] if p.grad is None]; params = [p")]),
    ("optimizer with bias correction", "the settings of the first group", [
        (*STEP, "in group.items()", "in self.param_groups[0].items()")]),
    *[("optimizer with weight decay", cause, edits) for cause, edits in [
        ("weight decay is not applied", [NO_DECAY]),
        ("decay is added to the gradient", [(*UPDATE, GRADS, "[p.grad + weight_decay * p for p in params]"), NO_DECAY]),
        ("decay is not times lr", [(*UPDATE, DECAY, "1 - weight_decay")]),
        ("decay comes before the step", [(*UPDATE, MOVE, f"torch._foreach_mul_(params, {DECAY}); {MOVE}"), NO_DECAY]),
        ("decay is scaled by", [(*UPDATE, DECAY, "[1 + s * weight_decay for s in steps]")]),
        ("decay is scaled by", [(*UPDATE, MOVE, f"params[0].mul_(1 + steps[0] * weight_decay); {MOVE}"), NO_DECAY]),
    ]],
    *[("optimizer saved and restored", cause, [(*ADVANCE, old, new)]) for cause, old, new in [
        ("moments and step count", "self.state[p]", f"{OWN}.setdefault(p, {{}})"),
        ("the step count is not kept", "return state",
         f"own = {OWN}; own[p] = own.get(p, 0) + 1; return {{**state, 'step': own[p]}}"),
        ("the moments are not kept", "return state",
         f"zeros = torch.zeros_like(p); own = {OWN}.setdefault(p, {{'m': zeros, 'v': zeros.clone()}});"
         " return {**state, **own}"),
    ]],
]  # fmt: skip


@pytest.mark.parametrize("step, cause, edits", EDITS, ids=[f"{step}: {cause}" for step, cause, _ in EDITS])
def test_a_mistake_is_found_at_its_step_and_named(step, cause, edits, monkeypatch):
    for one in edits:
        edit(monkeypatch, *one)
    if step.startswith("optimizer"):
        found = sanity.check_optimizer()
    else:
        found = sanity.check_model(sanity.tiny(), sanity.tiny_reference())
    assert found.step == step and found.cause and cause in found.cause


def test_no_known_mistake_is_left_untested():
    tables = [getattr(mistakes, name) for name in dir(mistakes) if name.isupper() and name != "ROLES"]
    known = {cause for table in tables for cause, _ in table}
    tested = [cause for _, cause, _ in EDITS] + ["eps is 1e-12"]  # in the next test
    assert len(known) > 90 and all(any(part in cause for part in tested) for cause in known)


@pytest.mark.parametrize("owner, norm, step", [
    (Embeddings, "norm", "embedding"),
    (Layer, "attention_norm", "layer 0 residual + LayerNorm 1"),
    (Layer, "feed_forward_norm", "layer 0 residual + LayerNorm 2"),
])  # fmt: skip
def test_an_eps_of_1e_12_where_config_json_has_a_larger_one(owner, norm, step, monkeypatch):
    torch.manual_seed(0)
    made = f"self.{norm} = nn.LayerNorm(config.hidden_size, eps="
    edit(monkeypatch, owner, "__init__", f"{made}config.layer_norm_eps", f"{made}1e-12")
    model = BertModel(replace(CONFIG, layer_norm_eps=1e-3)).eval()
    found = sanity.check_model(model)
    assert found.step == step and "eps is 1e-12" in found.cause

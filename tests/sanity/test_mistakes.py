"""Known mistakes are found at their step and named: all of them as plain numbers, the usual ones in our modules."""

import math
from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F

from minbert import sanity
from minbert.bert import Encoded, expand_attention_mask
from minbert.optimizer import AdamW
from minbert.sanity import plain
from minbert.sanity.steps import model_steps, optimizer_steps
from minbert.sanity.verdict import Step, first_divergence

REFERENCE = sanity.tiny_reference()


def with_larger_eps() -> plain.Reference:
    """The tiny BERT with another eps in its config, so that all values of eps among the mistakes are wrong."""
    reference = replace(REFERENCE, config=replace(REFERENCE.config, layer_norm_eps=1e-3))
    return replace(reference, expected=plain.activations(reference))


def compute_once(step: Step) -> Step:
    """The same step, with the numbers of all its mistakes computed in advance, since each test compares with all."""
    numbers = [step.plain(**keywords) for _, keywords in step.mistakes]
    known = [(cause, {"mistake": i}) for i, (cause, _) in enumerate(step.mistakes)]
    return replace(step, plain=lambda mistake: numbers[mistake], mistakes=known)


MODEL_STEPS = map(compute_once, model_steps(sanity.tiny(), with_larger_eps(), expand_attention_mask))
MODEL_STEPS = [step for step in MODEL_STEPS if "layer 1" not in step.name and "explicit" not in step.name]  # repeated
*ADAM_STEPS, RESUMED_STEP = map(compute_once, optimizer_steps(AdamW))
PLAIN = [(f"{step.name}: {mistake[0]}", [step], *mistake) for step in MODEL_STEPS for mistake in step.mistakes]
PLAIN += [(f"optimizer: {mistake[0]}", ADAM_STEPS, *mistake) for mistake in ADAM_STEPS[0].mistakes]
PLAIN += [(f"resumed: {mistake[0]}", [RESUMED_STEP], *mistake) for mistake in RESUMED_STEP.mistakes]


@pytest.mark.parametrize("steps, cause, keywords", [case[1:] for case in PLAIN], ids=[case[0] for case in PLAIN])
def test_the_numbers_of_every_known_mistake_are_recognized_and_mistaken_for_no_other(steps, cause, keywords):
    wrong = [replace(step, run=lambda step=step: step.plain(**keywords).float()) for step in steps]
    divergence = first_divergence(wrong)
    only_nan = any(step.run().isnan().any() for step in wrong)  # then several mistakes give the same numbers
    assert cause in divergence.cause.split("; or ") if only_nan else cause == divergence.cause


def scores(q, k):
    return q @ k.mT / q.shape[-1] ** 0.5


def hide(scores, mask, value=-math.inf):
    return scores.masked_fill(~mask, value)


def with_heads(wrong):
    """An attention that computes `wrong(q, k, v, mask)` from queries, keys and values of [B,H,T,d]."""
    return lambda m, h, mask: m.output(m.merge(wrong(*(m.split(f(h)) for f in (m.query, m.key, m.value)), mask)))


def pre_norm(m, h, mask):
    h = h + m.attention(m.attention_norm(h), mask)
    return h + m.feed_forward(m.feed_forward_norm(h))


def norms_first(m, h, mask):
    a = h + m.attention_norm(m.attention(h, mask))
    return a + m.feed_forward_norm(m.feed_forward(a))


def whole(given=-1, pooled=-1, mask=lambda mask: mask):
    """BertModel.forward with mistakes."""

    def forward(m, ids, attention_mask, segments):
        hidden = [m.embeddings(ids, segments)]
        for layer in m.layers:
            hidden.append(layer(hidden[given], mask(expand_attention_mask(attention_mask))))
        return Encoded(hidden[-1], m.pool(hidden[pooled]), tuple(hidden))

    return forward


EMBEDDING, ATTENTION = ("embedding", "embeddings", "forward"), ("layer 0 attention", "layers.0.attention", "forward")
FEED_FORWARD = ("layer 1 feed-forward", "layers.1.feed_forward", "forward")
LAYER = ("layer 0 residuals and LayerNorms", "layers.0", "forward")
POOLER, WHOLE = ("pooler", "", "pool"), ("whole model, hidden states", "", "forward")
MODULES = [  # (step, module, method), the cause, the method with the mistake
    (EMBEDDING, "the position embeddings are not", lambda m, ids, segments: m.norm(m.token(ids) + m.segment(segments))),
    (ATTENTION, "not divided by √d", with_heads(lambda q, k, v, mask: hide(q @ k.mT, mask).softmax(-1) @ v)),
    (ATTENTION, "the mask is ignored", with_heads(lambda q, k, v, mask: scores(q, k).softmax(-1) @ v)),
    (ATTENTION, "the mask is inverted", with_heads(lambda q, k, v, mask: hide(scores(q, k), ~mask).softmax(-1) @ v)),
    (ATTENTION, "after the softmax", with_heads(lambda q, k, v, mask: (scores(q, k).softmax(-1) * mask) @ v)),
    (ATTENTION, "over the heads", with_heads(lambda q, k, v, mask: hide(scores(q, k), mask, -1e4).softmax(1) @ v)),
    (ATTENTION, "NaN", with_heads(lambda q, k, v, mask: (scores(q, k) + (1 - 1 * mask) * -math.inf).softmax(-1) @ v)),
    (ATTENTION, "query, key, key", lambda m, h, mask: m.attend(m.query(h), m.key(h), m.key(h), mask)),
    (("layer 0 attention", "layers.0.attention", "merge"), "the heads are merged without swapping",
     lambda m, x: x.reshape(len(x), x.shape[2], -1)),
    (("layer 0 attention, explicit", "layers.0.attention", "explicit"), "not divided by √d",
     lambda m, h, mask: (with_heads(lambda q, k, v, mask: hide(q @ k.mT, mask).softmax(-1) @ v)(m, h, mask), None)),
    (FEED_FORWARD, "tanh approximation", lambda m, a: m.down(F.gelu(m.up(a), approximate="tanh"))),
    (LAYER, "pre-norm", pre_norm),
    (LAYER, "LayerNorm comes before the residual: x + LN(y), not LN(x + y) (twice)", norms_first),
    (LAYER, "does not reach the attention", lambda m, h, mask: type(m).forward(m, h, torch.ones_like(mask))),
    (POOLER, "tanh is missing", lambda m, h: m.pooler(h[:, 0])),
    (WHOLE, "attention_mask does not reach", whole(mask=torch.ones_like)),
    (WHOLE, "every layer gets the embedding", whole(given=0)),
    (("whole model, pooler output", "", "forward"), "the embedding is pooled", whole(pooled=0)),
]  # fmt: skip


@pytest.mark.parametrize("place, cause, wrong", MODULES, ids=[f"{case[0][0]}: {case[1]}" for case in MODULES])
def test_a_mistake_in_a_module_is_found_at_its_step_and_named(place, cause, wrong):
    step, path, method = place
    model = sanity.tiny()
    module = model.get_submodule(path)
    setattr(module, method, lambda *inputs: wrong(module, *[x for x in inputs if x is not None]))
    divergence = sanity.check_model(model, REFERENCE)
    assert divergence.step == step and cause in divergence.cause


@pytest.mark.parametrize("part", ["embeddings.norm", "layers.0.attention_norm", "layers.1.feed_forward_norm"])
def test_the_default_eps_of_torch_is_named(part):
    model = sanity.tiny()
    model.get_submodule(part).eps = 1e-5
    assert "eps is 1e-5" in sanity.check_model(model, REFERENCE).cause


def test_a_mask_along_the_wrong_axis_is_named():
    divergence = sanity.check_model(sanity.tiny(), REFERENCE, expand_mask=lambda mask: mask.bool()[:, None, :, None])
    assert divergence.step == "attention mask" and "hides queries" in divergence.cause


def with_settings(**changes):
    """AdamW that takes other settings than those it was given."""

    class Changed(AdamW):
        def update(self, params, **settings):
            super().update(params, **settings | {name: change(settings[name]) for name, change in changes.items()})

    return Changed


def with_step(change, base=AdamW):
    """AdamW whose step first calls change(optimizer, group, p) for each parameter."""

    class Changed(base):
        def step(self):
            for group in self.param_groups:
                for p in group["params"]:
                    change(self, group, p)
            super().step()

    return Changed


def zero_gradient(optimizer, group, p):
    p.grad = torch.zeros_like(p) if p.grad is None else p.grad


def decay_gradient(optimizer, group, p):
    if p.grad is not None:
        p.grad += group["weight_decay"] * p.detach()


def count_on(optimizer, group, p):
    if p.grad is None:
        optimizer.state[p]["step"] += 1


def with_formula(formula):
    """Adam whose step is `formula`, of numbers and one parameter: (p, m, v, c, t, settings) -> p"""

    class Written(AdamW):
        def update(self, params, **settings):
            beta1, beta2 = settings["betas"]
            for p in params:
                state = self.advance(p)
                state["m"] = beta1 * state["m"] + (1 - beta1) * p.grad
                state["v"] = beta2 * state["v"] + (1 - beta2) * p.grad**2
                t = state["step"]
                c = math.sqrt(1 - beta2**t) / (1 - beta1**t) if settings["correct_bias"] else 1.0
                p.copy_(formula(p, state["m"], state["v"], c, t, settings))

    return Written


def without_decay(p, m, v, c, t, s):
    return p - s["lr"] * c * m / (v.sqrt() + s["eps"])


def right(p, m, v, c, t, s):
    return (1 - s["lr"] * s["weight_decay"]) * without_decay(p, m, v, c, t, s)


def without_root(p, m, v, c, t, s):
    beta1, beta2 = s["betas"]
    return without_decay(p, m, v, (1 - beta2**t) / (1 - beta1**t), t, s)


class FromZero(AdamW):
    def advance(self, p):
        state = super().advance(p)
        return state | {"step": state["step"] - 1}  # 0 in the first step: the correction divides by 0


class Forgetful(AdamW):
    def state_dict(self):
        return super().state_dict() | {"state": {}}


NO_DECAY = with_settings(weight_decay=lambda decay: 0)
OPTIMIZERS = [
    ("with bias correction", "bias is not corrected", with_settings(correct_bias=lambda on: False)),
    ("with bias correction", "steps are counted from 0", FromZero),
    ("with bias correction", "eps is left out", with_settings(eps=lambda eps: 0)),
    ("with bias correction", "the betas are swapped", with_settings(betas=lambda betas: betas[::-1])),
    ("with bias correction", "eps is added after the correction of v (as in torch)",
     lambda groups, correct_bias, **settings: torch.optim.AdamW(groups, **settings)),
    ("with bias correction", "a parameter without a gradient moves on", with_step(zero_gradient)),
    ("with bias correction", "first group",
     with_step(lambda optimizer, group, p: group.update(lr=optimizer.param_groups[0]["lr"]))),
    ("with bias correction", "t goes on", with_step(count_on)),
    ("with bias correction", "the correction lacks its root", with_formula(without_root)),
    ("with bias correction", "eps is added under the root",
     with_formula(lambda p, m, v, c, t, s: p - s["lr"] * c * m / (v + s["eps"]).sqrt())),
    ("with bias correction", "the root is forgotten",
     with_formula(lambda p, m, v, c, t, s: p - s["lr"] * c * m / (v + s["eps"]))),
    ("with bias correction", "up the gradient",
     with_formula(lambda p, m, v, c, t, s: p + s["lr"] * c * m / (v.sqrt() + s["eps"]))),
    ("without bias correction", "although correct_bias is off", with_settings(correct_bias=lambda on: True)),
    ("with weight decay", "is not applied", NO_DECAY),
    ("with weight decay", "is not multiplied by lr",
     with_formula(lambda p, *rest: (1 - rest[-1]["weight_decay"]) * without_decay(p, *rest))),
    ("with weight decay", "comes before the step",
     with_formula(lambda p, *rest: without_decay(p, *rest) - rest[-1]["lr"] * rest[-1]["weight_decay"] * p)),
    ("with weight decay", "added to the gradient (L2)", with_step(decay_gradient, NO_DECAY)),
    ("saved and restored", "moments and step count", Forgetful),
]  # fmt: skip


def test_adam_written_as_a_formula_is_right():
    assert sanity.check_optimizer(with_formula(right)) is None


@pytest.mark.parametrize("run, cause, cls", OPTIMIZERS, ids=[f"{case[0]}: {case[1]}" for case in OPTIMIZERS])
def test_a_mistake_in_an_optimizer_is_found_and_named(run, cause, cls):
    divergence = sanity.check_optimizer(cls)
    assert divergence.step == f"optimizer {run}" and cause in divergence.cause

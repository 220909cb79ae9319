"""The steps of a model, in the order in which they are checked."""

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor, nn

from minbert.sanity import mistakes, plain
from minbert.sanity.references import Reference
from minbert.sanity.verdict import Step

HIDDEN = ("row", "token", "dimension")


def model_steps(model: nn.Module, reference: Reference, attendable: Callable[[Tensor], Tensor]) -> Iterator[Step]:
    """Each is given the reference's input of that step; the whole model comes last."""
    w, config, expected, real = reference.weights, reference.config, reference.expected, reference.mask[..., None]
    inputs = (reference.ids, reference.mask, reference.segments)
    ids, mask, segments = like(model, reference.ids, reference.mask.long(), reference.segments)
    yield Step(
        "embedding",
        expected["embeddings"],
        lambda: model.embeddings(ids, segments),
        partial(plain.embedding, w, config, reference.ids, reference.segments),
        mistakes.EMBEDDING,
        HIDDEN,
        "it is LayerNorm(token + position + segment), a row of each table, then dropout",
        real,
    )
    yield Step(
        "attention mask",
        plain.attention_mask(reference.mask),
        lambda: allowed(attendable(mask), mask.shape[1]),
        partial(plain.attention_mask, reference.mask),
        mistakes.MASK,
        ("row", "head", "query", "key"),
        "it hides padded keys from every query: [B,1,1,T], True (or 0.0, if it is to be added) at real tokens",
    )
    for number in range(config.num_hidden_layers):
        yield from layer_steps(model, reference, number, attendable(mask))
    last = expected[f"encoder.layer.{config.num_hidden_layers - 1}.output"]
    yield Step(
        "pooler",
        expected["pooler"],
        lambda: model.pool(*like(model, last)),
        partial(plain.pooler, w, last),
        mistakes.POOLER,
        ("row", "dimension"),
        "it is tanh(Wh + b) of the first token's h",
    )
    yield Step(
        "whole model, hidden states",
        plain.hidden_states(w, config, *inputs),
        lambda: torch.stack(model(ids, mask, segments).hidden_states),
        partial(plain.hidden_states, w, config, *inputs),
        mistakes.MODEL,
        ("hidden state", *HIDDEN),
        "every part is right alone, so look at BertModel.forward: what it hands from one part to the next",
        real,
    )
    yield Step(
        "whole model, last hidden state",
        last,
        lambda: model(ids, mask, segments).last_hidden_state,
        lambda number: plain.hidden_states(w, config, *inputs)[number],
        mistakes.LAST,
        HIDDEN,
        "it is the last of hidden_states",
        real,
    )
    yield Step(
        "whole model, pooler output",
        expected["pooler"],
        lambda: model(ids, mask, segments).pooler_output,
        lambda number: plain.pooler(w, plain.hidden_states(w, config, *inputs)[number]),
        mistakes.POOLED,
        ("row", "dimension"),
        "it is the pooler's output for the last of hidden_states",
    )


def layer_steps(model: nn.Module, reference: Reference, number: int, mask: Tensor) -> Iterator[Step]:
    """The two halves of a layer alone, then what the layer does with them."""
    w, config, expected, real = reference.weights, reference.config, reference.expected, reference.mask[..., None]
    title, name = f"layer {number}", f"encoder.layer.{number}"
    h = expected[f"encoder.layer.{number - 1}.output" if number else "embeddings"]
    y, a = expected[f"{name}.attention.output.dense"], expected[f"{name}.attention.output"]
    z, output = expected[f"{name}.output.dense"], expected[f"{name}.output"]
    attention = partial(plain.attention, w, config, number, h, reference.mask)
    scaled = "it is softmax(QKᵀ/√d)V for each head, with padded keys at -∞; then heads are merged, and projected"
    around = "a layer is a = LN(h + Attention(h)), then LN(a + FeedForward(a)), and hands on the mask as it is"

    def part(of: str):
        return getattr(model.layers[number], of)

    def attend():
        return part("attention")(*like(model, h), mask)

    def attend_explicitly():
        return part("attention").explicit(*like(model, h), mask)[0]

    def traced(key: str):
        return lambda: trace(model.layers[number], *like(model, h), mask)[key]

    yield Step(f"{title} attention", y, attend, attention, mistakes.ATTENTION, HIDDEN, scaled, real)
    if number < len(model.layers) and hasattr(part("attention"), "explicit"):
        explicit = f"{title} attention, explicit"
        yield Step(explicit, y, attend_explicitly, attention, mistakes.ATTENTION, HIDDEN, scaled, real)
    yield Step(
        f"{title} feed-forward",
        z,
        lambda: part("feed_forward")(*like(model, a)),
        partial(plain.feed_forward, w, config, number, a),
        mistakes.FEED_FORWARD,
        HIDDEN,
        "it is W₂ GELU(W₁h + b₁) + b₂, then dropout",
        real,
    )
    yield Step(
        f"{title} input of attention",
        h,
        traced("attention"),
        partial(plain.attention_input, w, config, number, h),
        mistakes.ATTENTION_INPUT,
        HIDDEN,
        around,
        real,
    )
    yield Step(
        f"{title} residual + LayerNorm 1",
        a,
        traced("feed_forward"),
        partial(plain.add_norm, w, config, number, 0, h, y, h),
        mistakes.ADD_NORM,
        HIDDEN,
        around,
        real,
    )
    yield Step(
        f"{title} residual + LayerNorm 2",
        output,
        traced("output"),
        partial(plain.add_norm, w, config, number, 1, a, z, h),
        mistakes.ADD_NORM,
        HIDDEN,
        around,
        real,
    )


def trace(layer: nn.Module, h: Tensor, mask: Tensor) -> dict[str, Tensor]:
    """What a layer hands to its attention and its feed-forward, and its output. LookupError if one is not called."""
    seen = {}

    def watch(name: str):
        def hook(module, args, kwargs):
            seen[name] = args[0] if args else kwargs["h"]

        return getattr(layer, name).register_forward_pre_hook(hook, with_kwargs=True)

    hooks = [watch("attention"), watch("feed_forward")]
    try:
        seen["output"] = layer(h, mask)
    finally:
        for hook in hooks:
            hook.remove()
    for name in ("attention", "feed_forward"):
        if name not in seen:
            raise LookupError(f"the layer does not call self.{name}")
    return seen


def like(model: nn.Module, *tensors: Tensor) -> list[Tensor]:
    """Copies on the model's device, floats in its precision. (Copies, since the model may write into its input.)"""
    own = next(model.parameters())
    return [x.to(own.device, own.dtype if x.is_floating_point() else x.dtype, copy=True) for x in tensors]


def allowed(mask: Tensor, tokens: int) -> Tensor:
    """A mask as 1 and 0, [B,1,T,T]; one of floats is there to be added to the scores, so 0 stands for True."""
    mask = mask >= 0 if mask.is_floating_point() else mask.bool()
    return mask.double().expand(-1, 1, tokens, tokens)

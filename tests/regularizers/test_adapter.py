"""Adapters of all three placements: their equations, their first weights, what they add, and what trains."""

import pytest
import torch
from support.factories import attached, inserted, make_batch, make_model
from support.method_inputs import (
    HEAD,
    NORMS,
    both,
    count_bert_base,
    layer_input,
    logits,
    randomised,
    slow_gelu,
    slow_linear,
    token_by_token,
    trained_names,
)

from regularizers.base import unwrap

PLACES = ["houlsby", "before", "after"]


def slow_adapter(adapter, h: torch.Tensor) -> torch.Tensor:
    def of_token(x: list[float]) -> list[float]:
        up = slow_linear(adapter.up, slow_gelu(slow_linear(adapter.down, x)))
        return [v + d for v, d in zip(x, up)]

    return token_by_token(of_token, h)


@pytest.mark.parametrize("place", PLACES)
def test_a_layer_with_adapters_equals_a_slow_loop(place):
    (h, mask, _), model = layer_input(), randomised("adapter", [f"adapter.place={place}", "adapter.size=5"])
    outer = model.bert.layers[1]
    layer = unwrap(outer)
    a = unwrap(layer.attention)(h, mask)
    if place == "houlsby":
        a = slow_adapter(layer.attention.adapters["rte"], a)
    a = layer.attention_norm(h + a)
    f = unwrap(layer.feed_forward)(a)
    if place != "after":
        f = slow_adapter(layer.feed_forward.adapters["rte"], f)
    expected = layer.feed_forward_norm(a + f)
    if place == "after":
        expected = slow_adapter(outer.adapters["rte"], expected)
    assert torch.allclose(outer(h, mask, "rte"), expected, atol=1e-12)


@pytest.mark.parametrize("place", PLACES)
def test_an_adapter_with_zero_weights_changes_no_logit_not_even_in_training(place):
    model, batch = attached("adapter", [f"adapter.place={place}", "adapter.std=0"]).train(), make_batch()
    assert torch.equal(logits(model, batch), logits(make_model().train(), batch))


@pytest.mark.parametrize("place", PLACES)
def test_a_fresh_adapter_hardly_changes_the_model_and_both_its_matrices_learn(place):
    model, batch = attached("adapter", [f"adapter.place={place}"]), make_batch()
    top, plain = (m.eval()(batch).hidden[-1] for m in (model, make_model()))
    assert 1e-7 < (top - plain).abs().max() < 1e-2
    batch.task.loss(model(batch).logits, batch.labels).backward()
    assert all(p.grad.norm() > 0 for p in inserted(model).values())


def test_fresh_weights_are_normal_and_cut_off_at_two_standard_deviations():
    model = attached("adapter", ["adapter.size=500", "adapter.std=0.01"])
    for name, p in inserted(model).items():
        if name.endswith("bias"):
            assert not p.any()
        else:  # the standard deviation of N(0, 1) cut off at 2 is 0.88
            assert 0.0195 < p.abs().max() <= 0.02 * (1 + 1e-6) and 0.0085 < p.std() < 0.0091


@pytest.mark.parametrize("place, added", [("houlsby", 2_379_264), ("before", 1_189_632), ("after", 1_189_632)])
def test_bert_base_has_the_parameters_that_the_header_states(place, added):
    norms = 38_400
    assert count_bert_base("adapter", [f"adapter.place={place}"], tasks=1) == (added, added + norms)
    assert count_bert_base("adapter", [f"adapter.place={place}"], tasks=2) == (2 * added, 2 * added + norms)


@pytest.mark.parametrize(
    "place, paths", [("houlsby", ["attention.", "feed_forward."]), ("before", ["feed_forward."]), ("after", [""])]
)
def test_adapters_layer_norms_and_the_head_train(place, paths):
    expected = set()
    for layer in range(3):
        for path in paths:
            expected |= both(f"bert.layers.{layer}.{path}adapters.rte.down")
            expected |= both(f"bert.layers.{layer}.{path}adapters.rte.up")
    assert len(NORMS) == 14
    assert trained_names(attached("adapter", [f"adapter.place={place}"])) == expected | NORMS | HEAD

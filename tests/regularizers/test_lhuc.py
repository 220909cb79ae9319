"""LHUC: the factors of units, their start, and what trains."""

import math

import pytest
import torch
from support.factories import attached, make_batch, make_model
from support.method_inputs import BASE, HEAD, count_bert_base, layer_input, logits, randomised, trained_names

FACTORS = {f"bert.layers.{layer}.r.rte" for layer in range(3)}


def test_each_unit_is_scaled_by_twice_a_sigmoid():
    h, mask, _ = layer_input()
    layer = randomised("lhuc").bert.layers[1]
    factors = [2 / (1 + math.exp(-r)) for r in layer.r["rte"].tolist()]
    expected = layer.base(h, mask) * torch.tensor(factors, dtype=h.dtype)
    assert torch.allclose(layer(h, mask, "rte"), expected, atol=1e-12)


def test_a_factor_is_at_most_two():
    h, mask, _ = layer_input()
    layer = randomised("lhuc").bert.layers[1]
    layer.r["rte"].data.fill_(20)
    assert torch.allclose(layer(h, mask, "rte"), 2 * layer.base(h, mask), rtol=1e-8)


def test_at_the_start_all_factors_are_one_so_no_logit_changes_not_even_in_training():
    model, batch = attached("lhuc").train(), make_batch()
    assert torch.equal(logits(model, batch), logits(make_model().train(), batch))


@pytest.mark.parametrize("freeze", [False, True])
def test_the_factors_train_with_bert_or_without_it(freeze):
    model = attached("lhuc", ["lhuc.freeze=true"] if freeze else [])
    bert = set() if freeze else set(make_model().state_dict())
    assert trained_names(model) == FACTORS | HEAD | bert


@pytest.mark.parametrize("tasks", [1, 2])
def test_bert_base_has_the_parameters_that_the_header_states(tasks):
    added = 9_216 * tasks
    assert count_bert_base("lhuc", [], tasks) == (added, BASE + added)
    assert count_bert_base("lhuc", ["lhuc.freeze=true"], tasks) == (added, added)

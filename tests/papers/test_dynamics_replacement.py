"""Figure 3 of the dynamics paper: replacing a layer equals copying its parameters, and no model changes."""

from copy import deepcopy

import pytest
import torch
from support.factories import attached, make_batch, make_dataset

from papers.dynamics import replacement
from papers.dynamics.inside import TokenSample, hidden_states
from papers.dynamics.replacement import last_outputs, replacement_distances

CPU = torch.device("cpu")


def before_and_after(option: str = "finetune", **config):
    """A model, and the same after a random change of all parameters, in float64."""
    before = attached(option, (), **config).double().eval()
    after = deepcopy(before)
    generator = torch.Generator().manual_seed(3)
    for p in after.parameters():
        p.data += 0.1 * torch.randn(p.shape, generator=generator, dtype=p.dtype)
    return before, after


@pytest.mark.parametrize("option", ["finetune", "adapter", "lhuc", "lora", "mixout"])
def test_the_outputs_are_those_of_a_copy_with_the_parameters_put_back(option):
    before, after = before_and_after(option)
    batch = make_batch()
    outputs, plain = last_outputs(before, after, batch), hidden_states(after, batch)
    assert len(outputs) == 4 and torch.equal(outputs[0], plain[-1])
    for number, output in enumerate(outputs[1:]):
        copy = deepcopy(after)
        copy.bert.layers[number].load_state_dict(before.bert.layers[number].state_dict())
        hidden = hidden_states(copy, batch)
        assert torch.allclose(hidden[-1], output, rtol=0, atol=1e-12)
        assert all(torch.equal(a, b) for a, b in zip(hidden[: number + 1], plain))  # the layers below do not change
        assert not torch.allclose(output, plain[-1], rtol=0, atol=1e-3)


def test_in_albert_one_depth_is_replaced():
    before, after = before_and_after(family="albert")
    batch = make_batch()
    mask = batch.attention_mask.bool()[:, None, None, :]
    for number, output in enumerate(last_outputs(before, after, batch)[1:]):
        h = after.embed(batch)
        for depth in range(3):
            h = (before if depth == number else after).bert.layers[depth](h, mask)
        assert torch.allclose(h, output, rtol=0, atol=1e-12)


def test_an_untuned_model_has_distance_0_everywhere():
    before, _ = before_and_after()
    distances = replacement_distances(before, deepcopy(before), TokenSample([make_dataset()], 200), 7, CPU, "")
    assert [d.distance for d in distances] == pytest.approx([0, 0, 0], abs=1e-9)


def test_only_a_layer_that_changed_has_a_distance():
    before, after = before_and_after()
    tuned = deepcopy(before)
    tuned.bert.layers[1].load_state_dict(after.bert.layers[1].state_dict())
    tokens = TokenSample([make_dataset()], 200)
    first, second, third = (d.distance for d in replacement_distances(before, tuned, tokens, 7, CPU, ""))
    assert (first, third) == pytest.approx((0, 0), abs=1e-9) and second > 1e-3


@pytest.mark.parametrize("option", ["finetune", "adapter"])
def test_both_models_keep_their_parameters_bit_for_bit(option):
    models = before_and_after(option)
    saved = [{name: value.clone() for name, value in model.state_dict().items()} for model in models]
    replacement_distances(*models, TokenSample([make_dataset()], 200), 7, CPU, "")
    for model, state in zip(models, saved):
        assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())


def test_the_script_writes_the_distance_for_each_run_and_layer(runs, tmp_path, capsys):
    argv = [str(runs[0].folder), "--tokens", "1000", "--device", "cpu"]
    assert replacement.main([*argv, "--out", str(tmp_path)]) == 0
    assert capsys.readouterr().err == ""
    header, *rows = [line.split("\t") for line in (tmp_path / "replacement.tsv").read_text().splitlines()]
    assert header == ["line", "run", "layer", "distance", "literal", "n", "k1", "k2"]
    assert [row[:3] for row in rows] == [["rte", "rte-seed0", str(layer)] for layer in (1, 2, 3, 4)]
    assert all(0 < float(row[3]) < 0.01 for row in rows)  # two steps move little
    assert (tmp_path / "replacement.png").stat().st_size > 10_000

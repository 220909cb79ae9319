"""LoRA: its equation, its start, what trains, and plain weights that compute the same."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.factories import attached, inserted, make_batch, make_model
from support.method_inputs import HEAD, count_bert_base, layer_input, logits, randomised, slow_dot, trained_names

from minbert import weights
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.task import Batch
from regularizers.base import Wrapper, unwrap
from regularizers.lora import Lora

REFERENCE = Path(__file__).parents[1] / "support" / "references" / "lora"
SETTINGS = ["lora.r=5", "lora.alpha=7"]


def updated_weight(weight: torch.Tensor, update) -> torch.Tensor:
    """W₀ + α/r B A, entry by entry, for r = 5 and α = 7."""
    a, b, result = update.a.tolist(), update.b.tolist(), weight.detach().clone()
    for row in range(12):
        for column in range(12):
            result[row, column] += 7 / 5 * slow_dot(b[row], [a[k][column] for k in range(5)])
    return result


def test_queries_and_values_are_projected_with_the_pretrained_weight_plus_a_low_rank_matrix():
    (h, mask, _), model = layer_input(), randomised("lora", SETTINGS)
    attention = model.bert.layers[1].attention
    plain = unwrap(attention)
    output, probabilities = attention.explicit(h, mask, "rte")
    assert torch.allclose(output, attention(h, mask, "rte"), atol=1e-12)
    plain.query.weight.data = updated_weight(plain.query.weight, attention.query_updates["rte"])
    plain.value.weight.data = updated_weight(plain.value.weight, attention.value_updates["rte"])
    expected, expected_probabilities = plain.explicit(h, mask)
    assert torch.allclose(output, expected, atol=1e-12)
    assert torch.allclose(probabilities, expected_probabilities, atol=1e-12)


def test_a_fresh_update_is_zero_and_changes_no_logit_not_even_in_training():
    model, batch = attached("lora").train(), make_batch()
    assert torch.equal(logits(model, batch), logits(make_model().train(), batch))


def test_a_starts_as_random_as_the_weights_of_bert_and_b_at_zero():
    for name, p in inserted(attached("lora", ["lora.r=200"])).items():
        if name.endswith(".b"):
            assert not p.any()
        else:  # initializer_range is 0.3
            assert 0.28 < p.std() < 0.32 and p.mean().abs() < 0.02, name


def test_at_the_start_b_has_a_gradient_and_a_has_none_yet():
    model, batch = attached("lora"), make_batch()
    batch.task.loss(model(batch).logits, batch.labels).backward()
    for name, p in inserted(model).items():
        assert (p.grad.norm() > 1e-6) == name.endswith(".b")


@pytest.mark.parametrize("tasks", [1, 2])
def test_bert_base_has_the_parameters_that_the_header_states(tasks):
    assert count_bert_base("lora", [], tasks) == (294_912 * tasks, 294_912 * tasks)


def test_the_updates_and_the_head_train():
    updates = {
        f"bert.layers.{layer}.attention.{projection}_updates.rte.{matrix}"
        for layer in range(3)
        for projection in ("query", "value")
        for matrix in ("a", "b")
    }
    assert trained_names(attached("lora")) == updates | HEAD


# Merged into plain weights.


def test_a_merged_model_is_plain_and_computes_the_same_logits():
    model, batch = randomised("lora", SETTINGS), make_batch()
    merged = weights.merge(model)
    assert (merged(batch).logits - model(batch).logits).abs().max() < 1e-12
    assert (make_model().double().eval()(batch).logits - model(batch).logits).abs().max() > 1e-2
    assert merged.state_dict().keys() == make_model().state_dict().keys()
    assert not any(isinstance(module, Wrapper) for module in merged.modules())


def test_a_merge_leaves_the_model_itself_as_it_was():
    model = randomised("lora", SETTINGS)
    before = {name: p.clone() for name, p in model.state_dict().items()}
    merged = weights.merge(model)
    with torch.no_grad():
        for p in merged.parameters():
            p.add_(1)
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(p, before[name]) for name, p in model.state_dict().items())


def test_noise_in_training_disappears_in_a_merge():
    merged = weights.merge(randomised("lora+noise", SETTINGS))
    assert not any(isinstance(module, Wrapper) for module in merged.modules())


def test_several_tasks_cannot_be_merged():
    with pytest.raises(InputError, match="cannot merge the tasks rte, stsb into one model"):
        weights.merge(attached("lora", [], TASKS["rte"], TASKS["stsb"]))


@pytest.mark.parametrize("other, name", [("adapter", "adapters"), ("low-rank", "branches"), ("lhuc", "r")])
def test_modules_without_plain_weights_cannot_be_merged(other, name):
    with pytest.raises(InputError, match=rf"cannot merge layers\.0\.(attention\.)?{name}\.rte.*: there are no plain"):
        weights.merge(attached(f"lora+{other}"))


# The same model in transformers and peft (tests/support/make_references.py).


@pytest.fixture
def trained():
    """The classifier of the reference, with LoRA in it, in float64; a batch; the expected tensors."""
    model = SentenceModel(BertModel.from_pretrained(REFERENCE), [TASKS["mnli"]])
    Lora(r=5, alpha=7.0).attach(model)
    weights.load_model(model, REFERENCE)
    expected = load_file(REFERENCE / "outputs.safetensors")
    inputs = (expected[name] for name in ("input_ids", "token_type_ids", "attention_mask"))
    return model.double().eval(), Batch(*inputs, torch.zeros(4), torch.arange(4), TASKS["mnli"]), expected


def test_the_logits_are_those_of_peft(trained):
    model, batch, expected = trained
    assert (model(batch).logits - expected["logits_by_peft"]).abs().max() < 1e-10


def test_the_logits_of_the_merged_model_are_those_of_transformers(trained):
    model, batch, expected = trained
    assert (weights.merge(model)(batch).logits - expected["logits"]).abs().max() < 1e-10


def test_the_saved_merged_model_is_the_checkpoint_that_transformers_read(trained, tmp_path):
    weights.save_model(weights.merge(trained[0]), tmp_path)
    saved, read = (load_file(folder / "model.safetensors") for folder in (tmp_path, REFERENCE / "merged"))
    assert saved.keys() == read.keys()
    assert all(torch.allclose(saved[name], read[name], atol=1e-12) for name in read)

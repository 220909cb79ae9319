"""The encoder against transformers' numbers (see make_references.py), and the properties its seams promise."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.factories import make_batch, make_model

from minbert.bert import BertModel, expand_attention_mask
from minbert.data.tasks import TASKS
from minbert.dropout import Dropout
from minbert.random_state import replay
from minbert.training.runtime import compile_layers

REFERENCES = Path(__file__).parents[1] / "support" / "references"


@pytest.mark.parametrize("dtype, tolerance", [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("case", ["plain", "padded"])
@pytest.mark.parametrize("size", ["odd", "wide", "one"])
def test_every_hidden_state_and_the_pooler_equal_transformers(size, case, dtype, tolerance):
    expected = load_file(REFERENCES / size / "outputs.safetensors")
    model = BertModel.from_pretrained(REFERENCES / size).to(getattr(torch, dtype))
    inputs = (expected["attention_mask"], expected["token_type_ids"]) if case == "padded" else (None, None)
    out = model(expected["input_ids"], *inputs)
    assert len(out.hidden_states) == model.config.num_hidden_layers + 1
    for number, hidden in enumerate(out.hidden_states):
        assert (hidden - expected[f"{dtype}.{case}.hidden{number}"]).abs().max() < tolerance
    assert (out.pooler_output - expected[f"{dtype}.{case}.pooler"]).abs().max() < tolerance
    assert torch.equal(out.last_hidden_state, out.hidden_states[-1])


def test_explicit_attention_equals_the_fused_kernel_and_returns_probabilities():
    attention = make_model().bert.layers[0].attention.double().eval()
    batch = make_batch()
    h, mask = torch.randn(5, 7, 12, dtype=torch.float64), expand_attention_mask(batch.attention_mask)
    output, probabilities = attention.explicit(h, mask)
    assert torch.allclose(output, attention(h, mask), atol=1e-12)
    assert probabilities.shape == (5, 3, 7, 7)
    assert torch.allclose(probabilities.sum(-1), torch.ones(5, 3, 7, dtype=torch.float64))
    assert (probabilities.masked_select(~mask) == 0).all()


def test_logits_do_not_depend_on_padding():
    model, batch = make_model().double().eval(), make_batch()
    alone = [model(make_rows(batch, [i], trim=True)).logits for i in range(5)]
    assert torch.allclose(model(batch).logits, torch.cat(alone), atol=1e-12)


def make_rows(batch, rows, trim):
    length = int(batch.attention_mask[rows].sum(1).max()) if trim else batch.input_ids.shape[1]
    cut = {k: getattr(batch, k)[rows, :length] for k in ("input_ids", "token_type_ids", "attention_mask")}
    return type(batch)(**cut, labels=batch.labels[rows], index=batch.index[rows], task=batch.task)


def test_forward_is_embed_encode_head_and_any_layer_can_be_the_start():
    model, batch = make_model().eval(), make_batch()
    out = model(batch)
    assert torch.equal(model.embed(batch), out.hidden[0])
    assert len(out.hidden) == len(out.rng) == 4
    for start in range(3):
        rest = model.encode(out.hidden[start], batch, start)
        assert all(torch.equal(a, b) for a, b in zip(rest, out.hidden[start + 1 :], strict=True))
    assert torch.equal(model.head(out.hidden[-1], batch), out.logits)


def test_noise_reaches_the_token_vectors_before_layernorm():
    model, batch = make_model().eval(), make_batch()
    assert torch.equal(model.embed(batch, torch.zeros(5, 7, 12)), model.embed(batch))
    shifted = model.embed(batch, torch.full((5, 7, 12), 3.0))  # LayerNorm removes a constant
    assert torch.allclose(shifted, model.embed(batch), atol=1e-5)
    assert not torch.allclose(model.embed(batch, torch.randn(5, 7, 12)), model.embed(batch), atol=0.1)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("start", [0, 1, 3])
def test_a_replayed_pass_meets_the_same_dropout_masks_bit_for_bit(start, bf16):
    model, batch = make_model().train(), make_batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        out = model(batch)
        before = torch.get_rng_state()
        with replay(out.rng[start]):
            hidden = (*model.encode(out.hidden[start], batch, start),) if start < 3 else (out.hidden[3],)
            assert torch.equal(model.head(hidden[-1], batch), out.logits)
        fresh = model.head(model.encode(out.hidden[0], batch)[-1], batch)
    assert torch.equal(before, torch.get_rng_state()) is False  # the fresh pass drew
    assert not torch.equal(fresh, out.logits)


def test_every_dropout_changes_the_output():
    """One site at a time, and each alone changes the output: embeddings, probabilities, outputs, head."""
    model, batch = make_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0).train(), make_batch()
    plain = model(batch).logits
    sites = [module for module in model.modules() if isinstance(module, Dropout)]
    assert len(sites) == 1 + 3 * 3 + 1
    for site in sites:
        site.p = 0.5
        assert not torch.equal(model(batch).logits, plain)
        site.p = 0.0
    assert torch.equal(model(batch).logits, plain)


def test_no_tensor_survives_a_forward_pass():
    model = make_model().train()
    before = {name: set(vars(module)) for name, module in model.named_modules()}
    model(make_batch())
    assert before == {name: set(vars(module)) for name, module in model.named_modules()}


def test_each_task_has_its_own_head():
    model = make_model(TASKS["rte"], TASKS["mnli"], TASKS["stsb"]).eval()
    assert [model(make_batch(task)).logits.shape[1] for task in model.tasks] == [2, 3, 1]


def test_compiled_layers_give_the_same_outputs_and_keep_every_name():
    model, batch = make_model(), make_batch()
    names, plain = list(model.state_dict()), model.eval()(batch).logits
    compile_layers(model, backend="aot_eager")
    assert torch.allclose(model(batch).logits, plain, atol=1e-6)
    assert list(model.state_dict()) == names

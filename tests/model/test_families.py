"""RoBERTa, ALBERT and DistilBERT against transformers' numbers, which tests/support/make_families.py has written."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from minbert.bert import BertModel
from minbert.config import BertConfig
from minbert.mlm import IGNORE, MLM, MaskedLanguageModel
from minbert.published import published_name
from minbert.task import Batch

REFERENCES = Path(__file__).parents[1] / "support" / "references" / "families"
FAMILIES = ("roberta", "albert", "distilbert")
TOLERANCE = {"float32": 1e-5, "float64": 1e-12}
LARGE = json.loads((REFERENCES / "large.json").read_text(encoding="utf-8"))


def references(family: str, kind: str) -> dict[str, torch.Tensor]:
    return load_file(REFERENCES / family / kind / "outputs.safetensors")


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("kind", ["encoder", "classifier", "mlm"])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_hidden_state_and_the_pooler_equal_transformers(family, kind, dtype):
    expected = references(family, kind)
    model = BertModel.from_pretrained(REFERENCES / family / kind).to(getattr(torch, dtype))
    out = model(expected["input_ids"], expected["attention_mask"], expected["token_type_ids"])
    real = expected["attention_mask"].bool()  # what stands at padding has no meaning
    for number, hidden in enumerate(out.hidden_states):
        assert (hidden - expected[f"{dtype}.hidden{number}"])[real].abs().max() < TOLERANCE[dtype]
    if f"{dtype}.pooler_output" in expected:
        assert (out.pooler_output - expected[f"{dtype}.pooler_output"]).abs().max() < TOLERANCE[dtype]
    assert len(out.hidden_states) == model.config.num_hidden_layers + 1


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_of_the_masked_language_model_equal_transformers(family, dtype):
    expected = references(family, "mlm")
    model = MaskedLanguageModel.from_pretrained(REFERENCES / family / "mlm").to(getattr(torch, dtype))
    mask = expected["attention_mask"].bool()
    labels = torch.where(mask, 1, IGNORE)
    batch = Batch(expected["input_ids"], expected["token_type_ids"], mask, labels, torch.arange(4), MLM)
    assert (model(batch).logits - expected[f"{dtype}.logits"][mask]).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("name", LARGE)
def test_published_large_models_have_these_parameters(name, tmp_path):
    """Built without memory, from their config.json."""
    (tmp_path / "config.json").write_text(json.dumps(LARGE[name]["config"]))
    config = BertConfig.from_json(tmp_path / "config.json")
    with torch.device("meta"):
        model = BertModel(config)
    found = {published_name(n, config.family): list(p.shape) for n, p in model.named_parameters()}
    expected = dict(LARGE[name]["parameters"])
    if config.model_type == "distilbert":  # its pooler belongs to the head of a sequence classifier
        expected |= {"pre_classifier.weight": [768, 768], "pre_classifier.bias": [768]}
    assert found == expected
    count = sum(p.numel() for p in model.parameters())
    assert (
        count
        == {
            "bert-large-uncased": 335_141_888,
            "roberta-large": 355_359_744,
            "albert-large-v2": 17_683_968,
            "distilbert-base-uncased": 66_362_880 + 768 * 769,  # with its head's dense layer
        }[name]
    )

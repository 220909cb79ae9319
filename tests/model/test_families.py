"""RoBERTa, ALBERT and DistilBERT against transformers' numbers, which tests/support/make_families.py has written."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.factories import make_batch, make_model

from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.mlm import IGNORE, MLM, MaskedLanguageModel
from minbert.optimizer import parameter_groups
from minbert.published import published_name
from minbert.task import Batch
from minbert.weights import load_model, save_model
from regularizers import build

REFERENCES = Path(__file__).parents[1] / "support" / "references" / "families"
FAMILIES = ("roberta", "albert", "distilbert")
CONFIGS = {family: make_model(family=family).bert.config for family in ("bert", *FAMILIES)}
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


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("family", FAMILIES)
def test_the_logits_of_a_published_classifier_equal_transformers(family, dtype):
    expected = references(family, "classifier")
    model = SentenceModel.from_pretrained(REFERENCES / family / "classifier").to(getattr(torch, dtype))
    (task,) = model.tasks
    assert task.labels == ("LABEL_0", "LABEL_1", "LABEL_2") and not model.training
    inputs = (expected[name] for name in ("input_ids", "token_type_ids", "attention_mask"))
    logits = model(Batch(*inputs, torch.zeros(4), torch.arange(4), task)).logits
    assert (logits - expected[f"{dtype}.logits"]).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("family", ["bert", *FAMILIES])
@pytest.mark.parametrize("tasks", [["mnli"], ["stsb"], ["rte", "mnli"]])
def test_a_saved_model_loads_again_and_shared_layers_are_in_the_file_once(family, tasks, tmp_path):
    model = make_model(*(TASKS[name] for name in tasks), family=family).eval()
    save_model(model, tmp_path)
    again = SentenceModel(BertModel.from_pretrained(tmp_path), model.tasks)
    load_model(again, tmp_path)
    batch = make_batch(model.tasks[0])
    assert torch.equal(again.eval()(batch).logits, model(batch).logits)
    assert again.bert.config.to_dict() == model.bert.config.to_dict() and not again.bert.fresh_pooler
    if len(tasks) == 1:
        published = SentenceModel.from_pretrained(tmp_path)
        assert published.tasks[0].labels == model.tasks[0].labels
        assert torch.equal(published(replace(batch, task=published.tasks[0])).logits, model(batch).logits)
    assert len(load_file(tmp_path / "model.safetensors")) == len(list(model.parameters()))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_masked_language_model_loads_again(family, tmp_path):
    model = MaskedLanguageModel(make_model(family=family).bert).eval()
    model.save(tmp_path)
    again = MaskedLanguageModel.from_pretrained(tmp_path)
    ids = torch.randint(5, 20, (2, 9))
    mask, labels = torch.ones(2, 9, dtype=torch.bool), torch.zeros(2, 9, dtype=torch.long)
    batch = Batch(ids, torch.zeros_like(ids), mask, labels, torch.arange(2), MLM)
    assert torch.equal(again(batch).logits, model(batch).logits)


def test_a_classifier_without_a_head_is_named(tmp_path):
    with pytest.raises(InputError, match=r"has no head of a sequence classifier: classifier\.out_proj\.weight"):
        SentenceModel.from_pretrained(REFERENCES / "roberta" / "mlm")


def test_the_layers_of_albert_share_their_parameters_but_not_what_is_inserted():
    model = make_model(family="albert")
    one = make_model(family="albert", num_hidden_layers=1)
    assert len(list(model.parameters())) == len(list(one.parameters()))
    groups = parameter_groups(model, 0.01)
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    adapted = make_model(family="albert")
    build("adapter").attach(adapted)
    first, second = (layer.feed_forward for layer in adapted.bert.layers[:2])
    assert first.base is second.base and first.adapters is not second.adapters


@pytest.mark.parametrize("rate, expected", [(None, 0.2), (0.5, 0.5)])
def test_both_dropouts_of_robertas_head_have_one_rate(rate, expected):
    model = make_model(family="roberta", hidden_dropout_prob=0.2, classifier_dropout=rate)
    assert model.bert.pooler_dropout.p == model.dropout.p == expected


def test_roberta_counts_real_tokens_from_behind_its_padding():
    """As transformers does, also with padding at the left."""
    model = BertModel.from_pretrained(REFERENCES / "roberta" / "encoder")
    ids = torch.tensor([[5, 9, 7, 1, 1], [1, 1, 5, 9, 7]])
    mask = ids != 1
    out = model(ids, mask).last_hidden_state
    assert torch.allclose(out[0, :3], out[1, 2:], atol=1e-6)
    with pytest.raises(ValueError, match="has 18 tokens, the model has 17 positions"):
        model(torch.full((1, 18), 5))


def spoiled(family: str, kind: str, folder: Path, **tensors) -> Path:
    """A copy of a reference whose tensors are replaced, or left out where they are None."""
    shutil.copytree(REFERENCES / family / kind, folder)
    found = load_file(folder / "model.safetensors") | tensors
    save_file({name: t for name, t in found.items() if t is not None}, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    "family, kind, name, tensor, message",
    [
        ("roberta", "mlm", "lm_head.bias", torch.zeros(36), "is [36], not [37]"),
        ("albert", "mlm", "predictions.dense.weight", torch.zeros(12, 12), "is [12, 12], not [7, 12]"),
        ("distilbert", "mlm", "vocab_projector.bias", torch.full((37,), torch.nan), "finite floating point"),
        ("roberta", "mlm", "lm_head.dense.weight", torch.zeros(12, 12, dtype=torch.int8), "finite floating point"),
        ("distilbert", "classifier", "classifier.weight", torch.zeros(1, 15), "is [1, 15], not [3, 15]"),
        ("albert", "classifier", "classifier.bias", torch.zeros(0), "is [3, 12], not [1, 12]"),
        ("roberta", "classifier", "classifier.dense.weight", None, "missing classifier.dense.weight [12, 12]"),
        ("roberta", "encoder", "embeddings.position_embeddings.weight", torch.zeros(18, 12), "max_position_embeddings"),
        (
            "albert",
            "encoder",
            "encoder.embedding_hidden_mapping_in.bias",
            torch.zeros(7),
            "is [7], config.json says [12]",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(family, kind, name, tensor, message, tmp_path):
    folder = spoiled(family, kind, tmp_path / "model", **{name: tensor})
    load = {"mlm": MaskedLanguageModel, "classifier": SentenceModel, "encoder": BertModel}[kind].from_pretrained
    with pytest.raises(InputError, match=re.escape(message)):
        load(folder)


@pytest.mark.parametrize(
    "family, change, message",
    [
        ("albert", {"num_hidden_layers": 10**12}, "more than 100"),
        ("albert", {"num_hidden_groups": 2}, "num_hidden_groups 2 is not supported, only 1"),
        ("roberta", {"pad_token_id": 18}, "leaves no position"),
        ("roberta", {"pad_token_id": 37}, "pad_token_id 37 is not below vocab_size 37"),
        ("roberta", {"is_decoder": True}, "is_decoder True is not supported"),
        ("distilbert", {"n_layers": 5}, "config.json says n_layers 5, the file has 2"),
        ("distilbert", {"dim": 20}, "(dim)"),
        ("roberta", {"id2label": ["a"]}, "id2label must map numbers to labels"),
        ("albert", {"problem_type": "multi_label_classification"}, "is not supported for a head with 3 outputs"),
    ],
)
def test_a_config_that_does_not_fit_is_named(family, change, message, tmp_path):
    folder = spoiled(family, "classifier", tmp_path / "model")
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(InputError, match=re.escape(message)):
        SentenceModel.from_pretrained(folder)


@pytest.mark.parametrize("kind, cls", [("classifier", SentenceModel), ("mlm", MaskedLanguageModel)])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_file_has_the_names_and_shapes_of_transformers(family, kind, cls, tmp_path):
    model = cls.from_pretrained(REFERENCES / family / kind)
    save_model(model, tmp_path) if kind == "classifier" else model.save(tmp_path)
    ours, theirs = (load_file(f / "model.safetensors") for f in (tmp_path, REFERENCES / family / kind))
    assert {name: t.shape for name, t in ours.items()} == {name: t.shape for name, t in theirs.items()}
    assert all(torch.equal(t, theirs[name]) for name, t in ours.items())


def test_a_field_that_config_json_leaves_out_has_the_familys_default(tmp_path):
    """Those of transformers' classes."""
    names = ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
             "max_position_embeddings")  # fmt: skip
    found = {}
    for family in ("bert", *FAMILIES):
        called = CONFIGS[family].family.names
        sizes = {called.get(name, name): 8 for name in names} | {"model_type": family}
        (tmp_path / "config.json").write_text(json.dumps(sizes))
        config = BertConfig.from_json(tmp_path / "config.json")
        found[family] = (config.pad_token_id, config.hidden_act, config.hidden_dropout_prob, config.classifier_dropout)
    assert found == {
        "bert": (0, "gelu", 0.1, None),
        "roberta": (1, "gelu", 0.1, None),
        "albert": (0, "gelu_new", 0.0, 0.1),
        "distilbert": (0, "gelu", 0.1, 0.2),
    }


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

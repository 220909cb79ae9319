"""minbert.export: the folder gives the answers of the run. benchmarks/exported.py loads it with transformers, peft."""

import json

import numpy as np
import pytest
import torch
from support.factories import make_batch, make_model

import minbert
import multitask
import train
from minbert import export
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.weights import read_safetensors
from regularizers import build

RUN = "--batch-size 16 --max-length 32 --max-steps 8 --lr 1e-2 --device cpu --precision fp32".split()
PAIRS = [("red red red", "red"), ("green green green green", "green"), ("red " * 40, "red")]


@pytest.fixture
def make_run(model_folder, data_folder, tmp_path):
    """A run of train.py on the made-up RTE -> its folder."""

    def run(*flags):
        folder = tmp_path / "run"
        where = ["--model", str(model_folder), "--data", str(data_folder), "--out", str(folder)]
        assert train.main([*RUN, *flags, *where]) == 0
        return folder

    return run


@pytest.mark.parametrize("option", ["finetune", "lora", "r4f", "mixout", "lora+smart"])
def test_the_exported_folder_gives_the_answers_of_the_run(option, make_run, tmp_path, capsys):
    run, to = make_run("--option", option), tmp_path / "new" / "exported"
    assert export.main([str(run), "--to", str(to)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{run} -> {to}"
    assert not [name for name in read_safetensors(to / "model.safetensors") if name.startswith("inserted.")]
    exported = minbert.load_run(to)
    exported.max_length = 32
    for ours, theirs in zip(minbert.load_run(run).predict(PAIRS), exported.predict(PAIRS), strict=True):
        assert theirs.prediction == ours.prediction
        assert theirs.probabilities == pytest.approx(ours.probabilities, abs=1e-6)
    assert json.loads((to / "tokenizer_config.json").read_text())["model_max_length"] == 32
    assert json.loads((to / "config.json").read_text())["architectures"] == ["BertForSequenceClassification"]


def test_one_logit_becomes_two_whose_softmax_is_its_sigmoid():
    head = torch.nn.Linear(7, 1).double()
    x = torch.randn(5, 7, dtype=torch.float64)
    probabilities = export.two_outputs(head).double()(x).softmax(-1)
    np.testing.assert_allclose(probabilities[:, 1].detach(), torch.sigmoid(head(x))[:, 0].detach(), rtol=1e-6)


def test_quora_alone_is_exported_with_two_labels(model_folder, course, tmp_path):
    run, to = tmp_path / "run", tmp_path / "exported"
    where = ["--model", str(model_folder), "--data", str(course), "--out", str(run)]
    assert train.main([*RUN, *where, "--task", "quora"]) == 0
    assert export.main([str(run), "--to", str(to)]) == 0
    for ours, theirs in zip(minbert.load_run(run).predict(PAIRS[:2]), minbert.load_run(to).predict(PAIRS[:2])):
        assert list(theirs.probabilities) == list(ours.probabilities) == ["0.0", "1.0"]
        assert theirs.probabilities == pytest.approx(ours.probabilities, abs=1e-6)


def peft_logits(base, folder, batch) -> torch.Tensor:
    """What peft computes: W + B A alpha/r in the projections that the config names, and the saved modules."""
    config, tensors = (
        json.loads((folder / "adapter_config.json").read_text()),
        read_safetensors(folder / "adapter_model.safetensors"),
    )
    used = set()

    def take(name: str) -> torch.Tensor:
        used.add(name)
        return tensors[f"base_model.model.{name}"]

    with torch.no_grad():
        for i, layer in enumerate(base.bert.layers):
            for name in config["target_modules"]:
                path = f"bert.encoder.layer.{i}.attention.self.{name}"
                update = take(f"{path}.lora_B.weight") @ take(f"{path}.lora_A.weight")
                layer.attention.get_submodule(name).weight += config["lora_alpha"] / config["r"] * update
        for module, name in ((base.bert.pooler, "bert.pooler.dense"), (base.heads["rte"], "classifier")):
            module.weight.copy_(take(f"{name}.weight"))
            module.bias.copy_(take(f"{name}.bias"))
        assert {f"base_model.model.{name}" for name in used} == tensors.keys()
        return base(batch).logits


def test_an_adapter_for_peft_holds_the_updates_head_and_pooler(tmp_path):
    model, batch = make_model(seed=1).eval(), make_batch()
    build("lora", ["lora.r=3", "lora.alpha=5"]).attach(model)
    torch.manual_seed(2)
    for p in model.parameters():
        if p.requires_grad:
            p.data += 0.3 * torch.randn_like(p)
    export.write_adapter(model, "base", tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"], config["target_modules"]) == (3, 5.0, ["query", "value"])
    assert config["modules_to_save"] == ["bert.pooler.dense", "classifier"]
    with torch.no_grad():
        expected = model(batch).logits
    assert torch.allclose(peft_logits(make_model(seed=1).eval(), tmp_path, batch), expected, atol=1e-5)


def test_an_adapter_for_peft_has_two_outputs_in_place_of_one_logit(tmp_path):
    model = make_model(TASKS["quora"])
    build("lora", []).attach(model)
    export.write_adapter(model, "base", tmp_path)
    tensors = read_safetensors(tmp_path / "adapter_model.safetensors")
    weight = tensors["base_model.model.classifier.weight"]
    assert torch.equal(weight[1:], model.heads["quora"].weight) and not weight[0].any()
    assert tensors["base_model.model.classifier.bias"].shape == (2,)


def test_what_transformers_cannot_represent_is_refused(make_run, flags, tmp_path, capsys):
    to = tmp_path / "exported"
    run = make_run("--option", "adapter")
    assert export.main([str(run), "--to", str(to)]) == 2
    assert "cannot merge layers.0.attention.adapters.rte" in capsys.readouterr().err
    assert export.main([str(run), "--to", str(to), "--peft"]) == 2
    assert "--peft is for runs with --option lora" in capsys.readouterr().err
    several = tmp_path / "several"
    assert multitask.main([*flags, "--max-steps", "2", "--out", str(several)]) == 0
    assert export.main([str(several), "--to", str(to)]) == 2
    assert "the tasks sst5, quora, sts: transformers has no model with several heads" in capsys.readouterr().err
    assert not to.exists() and not list(tmp_path.glob(".*"))


def test_sentences_encoded_separately_are_refused(make_run, tmp_path, capsys):
    run = make_run("--pairs", "separate")
    assert export.main([str(run), "--to", str(tmp_path / "exported")]) == 2
    assert "encodes the sentences of a pair separately" in capsys.readouterr().err


def test_a_folder_is_never_overwritten(make_run, tmp_path, capsys):
    run = make_run()
    (tmp_path / "exported").mkdir()
    assert export.main([str(run), "--to", str(tmp_path / "exported")]) == 2
    assert f"--to {tmp_path / 'exported'} exists: name a new folder" in capsys.readouterr().err


def test_shared_layers_are_refused_for_peft():
    model = make_model(TASKS["rte"], family="albert")
    build("lora").attach(model)
    with pytest.raises(InputError, match="one update for shared layers"):
        export.low_rank_updates(model)

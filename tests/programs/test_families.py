"""Every program with a small RoBERTa, ALBERT and DistilBERT: as published folders, with their own tokenizers."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.factories import FAMILIES, make_model

import multitask
import train
from examples import finetune_by_hand
from minbert import predict, pretrain
from minbert.bert import Embeddings
from minbert.errors import Interrupted
from minbert.mlm import MaskedLanguageModel
from minbert.sanity.__main__ import main as sanity
from minbert.tokenizer import load_tokenizer
from minbert.training.evaluation import Evaluator

TOKENIZERS = Path(__file__).parents[1] / "support" / "references" / "tokenizers"


@pytest.fixture(params=FAMILIES)
def folder(request, tmp_path) -> Path:
    """A model folder with a masked-language-model head and the tokenizer of a family."""
    family, folder = request.param, tmp_path / request.param
    shutil.copytree(TOKENIZERS / family, folder)
    tokenizer = load_tokenizer(folder)
    sizes = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_id, "max_position_embeddings": 300}
    MaskedLanguageModel(make_model(family=family, **sizes).bert).save(folder)
    return folder


def flags(folder, data, out, *more) -> list[str]:
    common = ["--device", "cpu", "--precision", "fp32", "--batch-size", "16", "--max-length", "40", "--lr", "1e-2"]
    return ["--model", str(folder), "--data", str(data), "--out", str(out), *common, *more]


def tensors(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


@pytest.mark.parametrize("option", ["finetune", "smart+adapter", "pal", "r3f"])
def test_a_run_learns_is_resumed_and_saves_a_model_that_loads(option, folder, data_folder, tmp_path, monkeypatch):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    more = ["--option", option, "--epochs", "3", "--predict", "test", "--keep", "best"]
    assert train.main(flags(folder, data_folder, whole, *more)) == 0
    metrics = json.loads((whole / "metrics.json").read_text())
    assert metrics["epochs"] == 3 and len((whole / "predictions" / "test" / "RTE.tsv").read_text().splitlines()) == 8
    with monkeypatch.context() as patch:
        scores = Evaluator.scores

        def stop(self, split):
            if (stopped / "checkpoint").exists() and any((stopped / "checkpoint").iterdir()):
                raise Interrupted(15)
            return scores(self, split)

        patch.setattr(Evaluator, "scores", stop)
        assert train.main(flags(folder, data_folder, stopped, *more)) == 143
    assert train.main(["--resume", str(stopped)]) == 0
    assert all(torch.equal(tensor, tensors(stopped)[name]) for name, tensor in tensors(whole).items())
    again = tmp_path / "again"
    assert train.main(flags(whole / "model", data_folder, again, "--max-steps", "1")) == 0


def test_a_family_brings_its_recipe_and_the_run_says_so(folder, data_folder, tmp_path, capsys):
    assert train.main(flags(folder, data_folder, tmp_path / "run", "--max-steps", "1")) == 0
    settings = json.loads((tmp_path / "run" / "settings.json").read_text())
    found = settings["adam_betas"], settings["weight_decay"], settings["clip"]
    expected, said = {
        "roberta": (([0.9, 0.98], 0.1, 0.0), "--weight-decay 0.1 --clip 0.0 --adam-betas 0.9 0.98"),
        "albert": (([0.9, 0.999], 0.0, 1.0), "--weight-decay 0.0"),
        "distilbert": (([0.9, 0.999], 0.01, 1.0), ""),
    }[folder.name]
    assert found == expected and said in capsys.readouterr().out
    given = ["--weight-decay", "0.3", "--adam-betas", "0.5", "0.6", "--clip", "2", "--max-steps", "1"]
    assert train.main(flags(folder, data_folder, tmp_path / "given", *given)) == 0
    settings = json.loads((tmp_path / "given" / "settings.json").read_text())
    assert (settings["adam_betas"], settings["weight_decay"], settings["clip"]) == ([0.5, 0.6], 0.3, 2.0)


def test_several_tasks_train_on_one_encoder(folder, course, tmp_path):
    assert multitask.main(flags(folder, course, tmp_path / "run", "--epochs", "1", "--option", "lora")) == 0
    assert (tmp_path / "run" / "metrics.json").exists()


def test_a_mask_is_filled_and_pretraining_goes_on(folder, tmp_path, capsys):
    assert predict.main([str(folder), "--mask", "the cat [MASK] on the mat ."]) == 0
    assert len(capsys.readouterr().out.split()) >= 10
    (tmp_path / "text.txt").write_text("the cat sat on the mat .\n" * 40)
    out = tmp_path / "adapted"
    arguments = ["--model", str(folder), "--text", str(tmp_path / "text.txt"), "--out", str(out), "--lr", "1e-2"]
    assert pretrain.main([*arguments, "--device", "cpu", "--precision", "fp32", "--epochs", "5"]) == 0
    losses = [
        float(line.split("loss ")[1].split(",")[0]) for line in capsys.readouterr().out.splitlines() if "held" in line
    ]
    assert losses[-1] < losses[0] - 1
    assert predict.main([str(out), "--mask", "the cat sat [MASK] the mat ."]) == 0


def test_the_loop_by_hand_runs_unchanged(folder, data_folder, monkeypatch):
    monkeypatch.setattr(finetune_by_hand.sample, "MODEL", folder)
    monkeypatch.setattr(finetune_by_hand.sample, "DATA", data_folder)
    model = finetune_by_hand.finetune()
    assert model.bert.config.model_type == folder.name


def test_the_sanity_check_knows_the_family(folder, monkeypatch, capsys):
    assert sanity(["--model", str(folder)]) == 0
    positions = Embeddings.positions
    monkeypatch.setattr(Embeddings, "positions", lambda self, ids: positions(self, ids).roll(1, -2))
    assert sanity(["--model", str(folder)]) == 1
    assert "embedding" in capsys.readouterr().out

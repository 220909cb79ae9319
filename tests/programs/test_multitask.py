"""multitask.py as a user runs it, on tiny files in the course's form."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from support.factories import COURSE, make_batch, make_dataset, make_model

import multitask
import train
from minbert import BertModel, SentenceModel, load_tokenizer, metrics, weights
from minbert.data.dataset import Dataset
from minbert.data.readers import read_examples
from minbert.data.task_file import choose_tasks
from minbert.data.tasks import TASKS
from minbert.submission import check_predictions
from minbert.training import run
from minbert.training.arguments import parse_settings
from minbert.training.loop import Objective
from minbert.training.settings import MultitaskSettings
from regularizers import OPTIONS, build
from regularizers.base import Method


@pytest.mark.parametrize("pairs", ["together", "separate"])
def test_a_whole_run_has_the_scores_of_each_task_and_their_average(flags, course, tmp_path, capsys, read_json, pairs):
    more = ["--epochs", "3", "--option", "smart+adapter", "--predict", "test", "--evaluate", "dev", "train"]
    assert multitask.main([*flags, *more, "--pairs", pairs]) == 0
    printed, folder = capsys.readouterr().out, tmp_path / "run"
    assert "smart+adapter on sst5+quora+sts: 50 + 66 + 34 examples, 63 steps" in printed
    assert "sampling proportional: sst5 0.333, quora 0.429, sts 0.238" in printed
    assert f"{course / 'quora-dev.csv'}: left out 1 row without a label, line 5" in printed
    assert "steps: sst5 21, quora 27, sts 15" in printed
    found = read_json(folder / "metrics.json")
    assert found["task"] == "sst5+quora+sts" and found["split"] == "dev" and found["tasks"].keys() == set(COURSE)
    tasks = found["tasks"]
    assert [tasks[task]["steps"] for task in COURSE] == [21, 27, 15]
    for task in COURSE:
        assert set(tasks[task]["metrics"]) == set(tasks[task]["majority"]) == set(TASKS[task].metrics)
        assert tasks[task]["train_loss"] > 0
    course_average = (tasks["sst5"]["score"] + tasks["quora"]["score"] + (tasks["sts"]["score"] + 1) / 2) / 3
    assert found["score"] == pytest.approx(course_average)
    assert printed.splitlines()[-1].startswith(f"sst5+quora+sts dev score {found['score']:.4f} (sst5 ")
    for split in ("train", "dev"):
        labels = np.array([row.label for row in read_examples(TASKS["sst5"], course, split).rows])
        own = found["history"][-1][split]["tasks"]["sst5"]
        assert own["majority"]["accuracy"] == np.bincount(labels).max() / len(labels)
    assert found["failed"] == any(tasks[task]["failed"] for task in COURSE)
    assert [epoch["epoch"] for epoch in found["history"]] == [1, 2, 3] and set(found["history"][0]) == {
        "epoch", "dev", "train",
    }  # fmt: skip
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert all(set(row["losses"]) <= set(COURSE) for row in rows) and set(rows[0]["losses"]) == set(COURSE)
    files = {f"{stem}-{split}-output.csv" for stem in ("sst", "para", "sts") for split in ("dev", "test")}
    assert {path.name for path in (folder / "predictions").iterdir()} == files
    report = check_predictions(folder, course)
    assert report.problems == [] and len(report.files) == 6


@pytest.mark.parametrize("pairs", ["together", "separate"])
def test_the_scores_are_those_of_the_saved_model(flags, course, tmp_path, read_json, pairs):
    """Read model/ back with nothing but the public names, and score it by hand."""
    assert multitask.main([*flags, "--max-steps", "30", "--option", "pal", "--pairs", pairs]) == 0
    folder = tmp_path / "run" / "model"
    tasks = choose_tasks(COURSE, pairs)
    model, tokenizer = SentenceModel(BertModel.from_pretrained(folder), tasks).eval(), load_tokenizer(folder)
    build("pal").attach(model)
    weights.load_model(model, folder)
    scores = read_json(tmp_path / "run" / "metrics.json")["metrics"]
    for task in tasks:
        data = Dataset(task, read_examples(task, course, "dev"), tokenizer, 32)
        logits = torch.cat([model(data.collate([row])).logits for row in range(len(data))]).detach().numpy()
        own, labels = metrics.predictions_from_logits(task, logits), data.labels.numpy()
        expected = np.corrcoef(own, labels)[0, 1] if task.name == "sts" else (own == labels).mean()
        assert scores[task.name] == pytest.approx(expected, abs=1e-5)


def test_any_tasks_can_be_trained_together(flags, data_folder, course, tmp_path, read_json):
    """One of GLUE's and one of the course's, with all files below one folder."""
    both = tmp_path / "both"
    both.mkdir()
    for path in [*course.iterdir(), data_folder / "RTE"]:
        (both / path.name).symlink_to(path)
    more = ["--tasks", "rte", "sts", "--data", str(both), "--max-steps", "9", "--sampling", "round-robin"]
    assert multitask.main([*flags, *more]) == 0
    found = read_json(tmp_path / "run" / "metrics.json")
    assert [found["tasks"][task]["steps"] for task in ("rte", "sts")] == [5, 4]
    assert {p.relative_to(tmp_path / "run").as_posix() for p in (tmp_path / "run").rglob("*sv")} == {
        "predictions/dev/RTE.tsv", "predictions/sts-dev-output.csv",
    }  # fmt: skip


def test_train_size_takes_a_part_of_each_task(flags, capsys):
    assert multitask.main([*flags, "--epochs", "1", "--train-size", "9"]) == 0
    assert "9 + 9 + 9 examples, 6 steps" in capsys.readouterr().out


def test_a_model_without_segments_reads_separate_sentences_only(flags, tmp_path, capsys):
    model = make_model(TASKS["sts"], type_vocab_size=1)
    weights.save_model(model, tmp_path / "model")
    (tmp_path / "model" / "vocab.txt").write_bytes((Path(flags[1]) / "vocab.txt").read_bytes())
    more = ["--model", str(tmp_path / "model"), "--max-steps", "2"]
    assert multitask.main([*flags, *more]) == 2
    assert "pairs of texts, the model's type_vocab_size is 1" in capsys.readouterr().err
    assert multitask.main([*flags, *more, "--pairs", "separate"]) == 0


def test_one_task_trains_as_train_py_does(flags, tmp_path, read_json, capsys):
    more = ["--epochs", "2", "--option", "smart"]
    assert multitask.main([*flags, *more, "--tasks", "sts", "--out", str(tmp_path / "a")]) == 0
    assert train.main([*flags, *more, "--task", "sts", "--out", str(tmp_path / "b")]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("step ")]
    assert ["(sts " in line for line in lines] == [True] * (len(lines) // 2) + [False] * (len(lines) // 2)
    one, other = (read_json(tmp_path / name / "metrics.json") for name in "ab")
    assert one["tasks"]["sts"]["metrics"] == other["metrics"]
    assert (tmp_path / "a/model/model.safetensors").read_bytes() == (
        tmp_path / "b/model/model.safetensors"
    ).read_bytes()


def test_a_run_whose_loss_is_not_finite_has_metrics_that_say_so(flags, tmp_path, read_json, capsys):
    assert multitask.main([*flags, "--max-steps", "20", "--lr", "1e37", "--clip", "0"]) == 1
    assert "is not finite; " in capsys.readouterr().err
    found = read_json(tmp_path / "run" / "metrics.json")
    assert found["failed"] and found["score"] is None and found["kept_epoch"] is None and found["keep"] == "last"
    assert found["tasks"].keys() == set(COURSE) and found["tasks"]["sts"]["score"] is None


# The loss, and the parameters that learn from it.


def test_a_tasks_weight_scales_its_loss_and_no_penalty():
    class One(Method):
        def penalty(self, model, batch, clean):
            return {"one": clean.logits.square().sum()}

    tasks = choose_tasks(["sst5", "sts"])
    for task, factor in zip(tasks, (0.25, 1.0)):
        model, batch = make_model(*tasks).eval(), make_batch(task)
        (loss, terms), (weighted, again) = (Objective(model, One(), w)(batch) for w in ({}, {"sst5": 0.25}))
        assert torch.equal(terms["task"], again["task"])
        assert weighted.item() == pytest.approx((factor * terms["task"] + terms["one"]).item())
        assert loss.item() == pytest.approx((terms["task"] + terms["one"]).item())


@pytest.mark.parametrize("appears", [True, False])
def test_a_test_file_that_changes_during_training_changes_nothing(flags, course, tmp_path, monkeypatch, appears):
    """A run predicts what it has read at the start."""
    data, aside, fit = tmp_path / "data", tmp_path / "aside.csv", run.fit
    shutil.copytree(course, data)
    file = data / "sts-test-student.csv"
    start, end = (aside, file) if appears else (file, aside)
    if appears:
        file.rename(aside)

    def move(*arguments):
        start.rename(end)
        return fit(*arguments)

    monkeypatch.setattr(run, "fit", move)
    assert multitask.main([*flags, "--data", str(data), "--max-steps", "3", "--predict", "test"]) == 0
    predicted = (tmp_path / "run" / "predictions" / "sts-test-output.csv").exists()
    assert predicted == (not appears)


def test_task_weights_reach_the_objective(flags, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(run, "Objective", lambda *args: seen.append(args[2]) or Objective(*args))
    assert multitask.main([*flags, "--max-steps", "1", "--task-weights", "sts=0.5", "quora=2"]) == 0
    assert seen == [{"sts": 0.5, "quora": 2.0}]


@pytest.mark.parametrize("option", [*OPTIONS, "smart+adapter", "lnsr+pal"])
def test_a_batch_leaves_the_other_tasks_without_a_gradient(option):
    tasks = choose_tasks(COURSE)
    model, method = make_model(*tasks), build(option)
    method.attach(model)
    objective = Objective(model, method).train()
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    for task in tasks:
        model.zero_grad()
        objective(make_dataset(task).collate([0, 1, 2, 3]))[0].backward()
        grads = {name: p.grad for name, p in model.named_parameters()}
        for other in tasks:
            own = [name for name in names if f".{other.name}." in name]
            assert own and all((grads[name] is None) == (other is not task) for name in own)


def test_the_defaults_of_multitask_are_those_of_the_course():
    settings = parse_settings(MultitaskSettings, [], "").resolve()
    assert settings.tasks == COURSE and settings.sampling == "proportional" and settings.pairs == "together"
    assert settings.keep == "last" and settings.loss_weights == {} and settings.title == "sst5+quora+sts"
    assert settings.describe_changes() == ""

"""The weights of the last or of the best epoch are kept, also by a run that was stopped."""

import os
import signal

import pytest
import torch
from support.factories import make_model

import multitask
from minbert import weights
from minbert.data.dataset import Dataset
from minbert.training import evaluation
from minbert.training.state import BestWeights


@pytest.fixture
def scripted(monkeypatch):
    """Replaces the dev score of each epoch: the second is the best, and the third equals it."""
    scores, combine_tasks = iter([0.3, 0.7, 0.7, 0.5] * 9), evaluation.combine_tasks
    monkeypatch.setattr(evaluation, "combine_tasks", lambda *args: combine_tasks(*args) | {"score": next(scores)})


def test_the_last_or_the_best_epoch_is_kept(flags, tmp_path, read_json, scripted, capsys):
    # At a constant rate the first epochs do not know how many follow.
    flags = [*flags, "--schedule", "constant", "--option", "r4f"]
    folders = {}
    for name, more in (("last", ["--epochs", "4"]), ("best", ["--epochs", "4", "--keep", "best"])):
        folders[name] = tmp_path / name
        assert multitask.main([*flags, *more, "--out", str(folders[name])]) == 0
    said = capsys.readouterr().out
    assert "kept epoch 4, the last: epoch 2 has the best dev score, 0.7000" in said
    assert "kept epoch 2, the best on dev: the last, epoch 4, has 0.5000" in said
    last, best = (read_json(folder / "metrics.json") for folder in folders.values())
    assert [(run["keep"], run["kept_epoch"], run["best_epoch"], run["epochs"]) for run in (last, best)] == [
        ("last", 4, 2, 4), ("best", 2, 2, 4),
    ]  # fmt: skip
    assert (last["score"], best["score"]) == (0.5, 0.7)
    assert last["history"][3]["dev"]["tasks"]["sts"]["score"] == last["tasks"]["sts"]["score"]
    assert best["history"][1]["dev"]["tasks"]["sts"]["score"] == best["tasks"]["sts"]["score"]
    # It is the model that a run of two epochs ends with.
    two = tmp_path / "two"
    assert multitask.main([*flags, "--epochs", "2", "--out", str(two)]) == 0
    states = [weights.read_tensors(folder / "model") for folder in (folders["last"], folders["best"], two)]
    assert all(torch.equal(states[1][name], states[2][name]) for name in states[1])
    assert any(not torch.equal(states[0][name], states[1][name]) for name in states[0])
    files = [sorted((folder / "predictions").iterdir()) for folder in (folders["best"], two)]
    assert [path.read_bytes() for path in files[0]] == [path.read_bytes() for path in files[1]]


@pytest.mark.parametrize("stop_in", [1, 2, 3])
def test_the_best_epoch_survives_an_interruption(flags, tmp_path, monkeypatch, read_json, stop_in):
    """A signal comes in the epoch before the best, in the best, or in the one after it."""
    flags = [*flags, "--epochs", "4", "--keep", "best", "--option", "adapter", "--sampling", "annealed"]
    combine_tasks, scores, epochs = evaluation.combine_tasks, {1: 0.3, 2: 0.7, 3: 0.5, 4: 0.1}, []

    def scripted(tasks, results):
        epochs.append(len(epochs) % 4 + 1)
        if len(epochs) == 4 + stop_in:
            os.kill(os.getpid(), signal.SIGTERM)
        return combine_tasks(tasks, results) | {"score": scores[epochs[-1]]}

    monkeypatch.setattr(evaluation, "combine_tasks", scripted)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert multitask.main([*flags, "--out", str(whole)]) == 0
    assert multitask.main([*flags, "--out", str(stopped)]) == 143
    assert multitask.main(["--resume", str(stopped)]) == 0
    a, b = (read_json(folder / "metrics.json") for folder in (whole, stopped))
    assert a["kept_epoch"] == b["kept_epoch"] == 2 and a["history"] == b["history"] and a["tasks"] == b["tasks"]
    for name in ("model/model.safetensors", "trained.safetensors", "predictions/sts-dev-output.csv"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes()


@pytest.mark.parametrize("sampling", ["proportional", "annealed", "round-robin"])
def test_a_stopped_run_of_several_tasks_ends_with_the_same_weights(flags, tmp_path, monkeypatch, sampling):
    """Stopped within the second epoch: tasks, batches and masks are those of a run that was not stopped."""
    flags = [*flags, "--epochs", "2", "--sampling", sampling, "--option", "smart", "--pairs", "separate"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert multitask.main([*flags, "--out", str(whole)]) == 0
    with monkeypatch.context() as patch:
        count, collate = iter(range(1000)), Dataset.collate

        def collate_and_stop(self, rows, seed=0):
            if torch.is_grad_enabled() and next(count) == 30:
                os.kill(os.getpid(), signal.SIGTERM)
            return collate(self, rows, seed)

        patch.setattr(Dataset, "collate", collate_and_stop)
        assert multitask.main([*flags, "--out", str(stopped)]) == 143
    assert multitask.main(["--resume", str(stopped)]) == 0
    assert (whole / "model/model.safetensors").read_bytes() == (stopped / "model/model.safetensors").read_bytes()


def test_the_first_of_equal_epochs_is_kept():
    model, best = make_model(), BestWeights()
    best.update(model, 0.7)
    with torch.no_grad():
        model.bert.pooler.bias += 1
    best.update(model, 0.7)
    best.load_into(model)
    assert not model.bert.pooler.bias.any()


@pytest.mark.parametrize("keep, times", [("last", 2), ("best", 3)])
def test_logits_of_the_last_scores_are_not_computed_again_for_predictions(flags, scripted, monkeypatch, keep, times):
    """With --keep best they are: the weights may be those of an earlier epoch."""
    datasets, predict_logits = [], evaluation.predict_logits

    def counting(model, dataset, *rest):
        datasets.append(dataset)
        return predict_logits(model, dataset, *rest)

    monkeypatch.setattr(evaluation, "predict_logits", counting)
    assert multitask.main([*flags, "--epochs", "2", "--keep", keep, "--predict", "test"]) == 0
    assert sorted(datasets.count(dataset) for dataset in set(datasets)) == [1, 1, 1, times, times, times]  # test, dev

"""Which epoch's weights are kept, also by a run that was stopped."""

import os
import signal

import pytest
import torch
from support.factories import make_model

import multitask
from minbert import metrics, weights
from minbert.data.dataset import Dataset
from minbert.training.best import Best


@pytest.fixture
def scripted(monkeypatch):
    """The dev score of the epochs, whatever they come to: the second is the best."""
    scores = iter([0.3, 0.7, 0.7, 0.5] * 9)
    real = metrics.average
    monkeypatch.setattr(metrics, "average", lambda *args: real(*args) | {"score": next(scores)})


def test_the_last_or_the_best_epoch_is_kept(flags, tmp_path, read_json, scripted, capsys):
    # At a constant rate the first epochs do not know how many follow.
    flags = [*flags, "--schedule", "constant", "--option", "r4f"]
    folders = {}
    for name, more in (("last", ["--epochs", "4"]), ("best", ["--epochs", "4", "--keep", "best"])):
        folders[name] = tmp_path / name
        assert multitask.main([*flags, *more, "--out", str(folders[name])]) == 0
    said = capsys.readouterr().out
    assert "kept: epoch 4, the last; on dev epoch 2 is the best, with 0.7000" in said
    assert "kept: epoch 2, on dev the best; the last, epoch 4, has 0.5000" in said
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
    """A signal after so many epochs; before, at, or after the best."""
    flags = [*flags, "--epochs", "4", "--keep", "best", "--option", "adapter", "--sampling", "annealed"]
    real, scores, epochs = metrics.average, {1: 0.3, 2: 0.7, 3: 0.5, 4: 0.1}, []

    def scripted(tasks, results):
        epochs.append(len(epochs) % 4 + 1)
        if len(epochs) == 4 + stop_in:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(tasks, results) | {"score": scores[epochs[-1]]}

    monkeypatch.setattr(metrics, "average", scripted)
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert multitask.main([*flags, "--out", str(whole)]) == 0
    assert multitask.main([*flags, "--out", str(stopped)]) == 143
    assert multitask.main(["--resume", str(stopped)]) == 0
    a, b = (read_json(folder / "metrics.json") for folder in (whole, stopped))
    assert a["kept_epoch"] == b["kept_epoch"] == 2 and a["history"] == b["history"] and a["tasks"] == b["tasks"]
    for name in ("model/model.safetensors", "trained.safetensors", "predictions/sts-dev-output.csv"):
        assert (whole / name).read_bytes() == (stopped / name).read_bytes()


@pytest.mark.parametrize("sampling", ["proportional", "annealed", "round-robin"])
def test_a_stopped_run_goes_on_to_the_same_bits(flags, tmp_path, monkeypatch, sampling):
    """Stopped within the second epoch: tasks, batches and masks are those of a run that was not stopped."""
    flags = [*flags, "--epochs", "2", "--sampling", sampling, "--option", "smart", "--pairs", "separate"]
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    assert multitask.main([*flags, "--out", str(whole)]) == 0
    with monkeypatch.context() as patch:
        count, collate = iter(range(1000)), Dataset.collate

        def collate_and_stop(self, rows):
            if torch.is_grad_enabled() and next(count) == 30:
                os.kill(os.getpid(), signal.SIGTERM)
            return collate(self, rows)

        patch.setattr(Dataset, "collate", collate_and_stop)
        assert multitask.main([*flags, "--out", str(stopped)]) == 143
    assert multitask.main(["--resume", str(stopped)]) == 0
    assert (whole / "model/model.safetensors").read_bytes() == (stopped / "model/model.safetensors").read_bytes()


def test_the_first_of_equals_is_kept_even_by_a_run_that_went_on():
    """.7 is no float32."""
    model = make_model()
    best, again = Best(model, active=True), Best(model, active=True)
    best.offer({"dev": {"score": 0.7}})
    again.load_state_dict(best.state_dict())
    with torch.no_grad():
        model.bert.pooler.bias += 1
    again.offer({"dev": {"score": 0.7}})
    again.restore()
    assert not model.bert.pooler.bias.any()


@pytest.mark.parametrize("keep, times", [("last", 2), ("best", 3)])
def test_what_was_computed_for_the_last_scores_is_not_computed_again(flags, scripted, monkeypatch, keep, times):
    """With --keep best it is: the weights may be those of an earlier epoch."""
    seen, predict = [], finetuning.predict
    monkeypatch.setattr(
        finetuning, "predict", lambda model, data, *rest: seen.append(data) or predict(model, data, *rest)
    )
    assert multitask.main([*flags, "--epochs", "2", "--keep", keep, "--predict", "test"]) == 0
    assert sorted(seen.count(data) for data in set(seen)) == [1, 1, 1, times, times, times]  # test, then dev

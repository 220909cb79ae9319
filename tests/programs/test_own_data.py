"""A user's own data from the task file to a prediction: train, stop and resume, several tasks, predict."""

import csv
import json
import random
import shutil

import numpy as np
import pytest
import torch

import minbert
import multitask
import train
from minbert import export, predict
from minbert.data.predictions import read_predictions
from minbert.errors import InputError
from minbert.training import run as run_module
from minbert.training.loop import LOG_EVERY
from minbert.training.text_model import load_run
from papers.finished_run import FinishedRun, batches, check_same_task, group_by_recipe

RUN = "--batch-size 8 --max-length 32 --lr 1e-2 --device cpu --precision fp32".split()
LABELS = ["bad", "fine", "good"]
WORDS = dict(zip(LABELS, ("green", "fish", "red")))


@pytest.fixture
def own(tmp_path):
    """The folder of two tasks: reviews with three labels, and pairs with a number."""
    folder, rng = tmp_path / "own", random.Random(0)
    folder.mkdir()
    for split, size in (("train", 60), ("dev", 20), ("test", 9)):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "review", *(["stars"] if split != "test" else [])])
            for i in range(size):
                label = rng.choice(LABELS)
                text = " ".join([WORDS[label]] * rng.randint(2, 6)) + ', "the" cat'
                rows.writerow([f"{split}{i}", text, *([label] if split != "test" else [])])
    for split, size in (("train", 40), ("dev", 15)):
        with (folder / f"pairs-{split}.jsonl").open("w", encoding="utf-8") as file:
            for i in range(size):
                one, other = rng.choice(list(WORDS.values())), rng.choice(list(WORDS.values()))
                file.write(json.dumps({"id": i, "one": one, "other": other, "same": 5.0 * (one == other)}) + "\n")
    (folder / "reviews.toml").write_text(
        'name = "reviews"\ntrain = "train.csv"\ndev = "dev.csv"\ntest = "test.csv"\ntext = ["review"]\n'
        f'label = "stars"\nlabels = {json.dumps(LABELS)}\nmetrics = ["accuracy", "macro-f1"]\n',
        encoding="utf-8",
    )
    (folder / "pairs.toml").write_text(
        'name = "pairs"\ntrain = "pairs-train.jsonl"\ndev = "pairs-dev.jsonl"\ntext = ["one", "other"]\n'
        'label = "same"\nmetrics = ["pearson", "spearman"]\n',
        encoding="utf-8",
    )
    return folder


@pytest.fixture
def run(own, model_folder, tmp_path, monkeypatch):
    """Run train.py on the reviews, with a path that is relative to the working folder -> the run folder."""
    monkeypatch.chdir(tmp_path)

    def start(*flags, status: int = 0):
        where = ["--task", "own/reviews.toml", "--model", str(model_folder), "--out", str(tmp_path / "run")]
        assert train.main([*RUN, *where, *flags]) == status
        return tmp_path / "run"

    return start


def test_a_run_learns_says_how_it_read_the_files_and_predicts_with_probabilities(run, own, capsys, read_json):
    folder = run("--epochs", "6", "--predict", "test")
    said = capsys.readouterr().out
    assert "train.csv: 60 rows, separated by commas" in said and "reviews dev score" in said
    metrics = read_json(folder / "metrics.json")
    assert metrics["task"] == "reviews" and set(metrics["metrics"]) == {"accuracy", "macro-f1"}
    assert metrics["score"] == metrics["metrics"]["accuracy"] > 0.8
    with (folder / "predictions" / "reviews-test.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == [f"test{i}" for i in range(9)]
    for row in rows:
        probabilities = {label: float(row[label]) for label in LABELS}
        assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-6)
        assert row["prediction"] == max(probabilities, key=probabilities.get)
    with (own / "dev.csv").open(encoding="utf-8") as file:
        labels = [row["stars"] for row in csv.DictReader(file)]
    predictions = read_predictions(folder, "reviews", "dev")
    assert np.mean([p == y for p, y in zip(predictions, labels, strict=True)]) == metrics["score"]


def test_predict_reads_the_users_own_table(run, own, tmp_path, capsys):
    """It takes ids and texts from the columns, and gives the answers that the run wrote for the same file."""
    folder = run("--epochs", "3", "--predict", "test", "--precision", "fp32")
    assert predict.main([str(folder), "--file", str(own / "test.csv"), "--out", str(tmp_path / "answers.csv")]) == 0
    assert capsys.readouterr().out.endswith(f"9 answers: {tmp_path / 'answers.csv'}\n")
    answers, written = (
        list(csv.DictReader(path.open(encoding="utf-8")))
        for path in (tmp_path / "answers.csv", folder / "predictions" / "reviews-test.csv")
    )
    for answer, row in zip(answers, written, strict=True):
        assert (answer["id"], answer["prediction"]) == (row["id"], row["prediction"])
        assert [float(answer[x]) for x in LABELS] == pytest.approx([float(row[x]) for x in LABELS], abs=1e-6)
    assert predict.main([str(folder), "--file", str(own / "nowhere.csv")]) == 2
    assert capsys.readouterr().err.endswith("nowhere.csv does not exist\n")


def test_a_trained_model_answers_even_if_data_and_task_file_are_gone(run, own):
    folder = run("--epochs", "3", "--option", "adapter")
    written = read_predictions(folder, "reviews", "dev")
    with (own / "dev.csv").open(encoding="utf-8") as file:
        texts = [row["review"] for row in csv.DictReader(file)]
    shutil.rmtree(own)
    answers = load_run(folder).predict(texts)
    assert [answer.prediction for answer in answers] == written
    assert list(answers[0].probabilities) == LABELS


def test_several_tasks_of_files_and_of_the_table_train_together(own, model_folder, data_folder, tmp_path, read_json):
    out = tmp_path / "run"
    tasks = [str(own / "reviews.toml"), str(own / "pairs.toml"), "rte"]
    where = ["--model", str(model_folder), "--data", str(data_folder), "--out", str(out)]
    assert multitask.main([*RUN, *where, "--tasks", *tasks, "--max-steps", "9", "--task-weights", "pairs=0.5"]) == 0
    metrics = read_json(out / "metrics.json")
    assert list(metrics["tasks"]) == ["reviews", "pairs", "rte"] and metrics["task"] == "reviews+pairs+rte"
    assert {path.name for path in (out / "predictions").iterdir()} >= {"reviews-dev.csv", "pairs-dev.csv"}
    model = minbert.load_run(out)
    written = list(map(float, read_predictions(out, "pairs", "dev")))
    rows = [json.loads(line) for line in (own / "pairs-dev.jsonl").read_text().splitlines()]
    answers = model.predict([(row["one"], row["other"]) for row in rows], "pairs")
    assert [answer.prediction for answer in answers] == pytest.approx(written, abs=1e-5)


def test_a_stopped_run_is_resumed_from_another_folder_and_refused_if_the_data_changed(
    run, own, tmp_path, monkeypatch, capsys
):
    from minbert.training.log import TrainingLog

    class StoppedError(Exception):
        pass

    def stop(self, record):
        if record.step > LOG_EVERY:
            raise StoppedError
        add(self, record)

    add = TrainingLog.add
    with monkeypatch.context() as patch:
        patch.setattr(TrainingLog, "add", stop)
        with pytest.raises(StoppedError):
            run("--epochs", "2")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    good = (own / "reviews.toml").read_text(encoding="utf-8")
    (own / "reviews.toml").write_text(good.replace('"bad", "fine"', '"fine", "bad"'), encoding="utf-8")
    assert train.main(["--resume", str(tmp_path / "run")]) == 2
    changed = "the definition of the tasks, the train data of reviews, the dev data of reviews changed"
    assert changed in capsys.readouterr().err
    (own / "reviews.toml").write_text(good, encoding="utf-8")
    assert train.main(["--resume", str(tmp_path / "run")]) == 0


def test_a_name_that_two_tasks_share_is_refused(own, tmp_path, capsys):
    other = tmp_path / "other.toml"
    shutil.copy(own / "reviews.toml", other)
    assert multitask.main(["--tasks", str(own / "reviews.toml"), str(other)]) == 2
    assert "--tasks names reviews twice" in capsys.readouterr().err


def without_test(own) -> None:
    text = (own / "reviews.toml").read_text(encoding="utf-8")
    (own / "reviews.toml").write_text(text.replace('test = "test.csv"\n', ""), encoding="utf-8")


def test_predict_test_needs_a_test_file(own, run, capsys):
    without_test(own)
    run("--predict", "test", "--max-steps", "1", status=2)
    assert "--predict test: reviews has no test file" in capsys.readouterr().err


def test_of_several_tasks_those_without_a_test_file_are_named_and_the_others_predicted(
    own, model_folder, data_folder, tmp_path, capsys
):
    where = ["--model", str(model_folder), "--data", str(data_folder), "--out", str(tmp_path / "run")]
    files = [str(own / "reviews.toml"), str(own / "pairs.toml")]
    flags = [*RUN, *where, "--predict", "test", "--max-steps", "2", "--tasks"]
    assert multitask.main([*flags, *files, "rte"]) == 0
    assert "pairs has no test file: only its dev set is predicted" in capsys.readouterr().out
    written = {path.name for path in (tmp_path / "run" / "predictions").rglob("*") if path.is_file()}
    assert written == {"reviews-dev.csv", "reviews-test.csv", "pairs-dev.csv", "RTE.tsv"}
    without_test(own)
    assert multitask.main([*flags, *files, "--out", str(tmp_path / "other")]) == 2
    assert "has no test file of reviews, pairs" in capsys.readouterr().err


def test_a_task_of_ones_own_is_not_said_to_be_the_samples(run, capsys):
    run("--max-steps", "1")
    assert "small made-up language" not in capsys.readouterr().out


def test_a_task_file_that_is_removed_during_the_run_is_not_missed(run, own, monkeypatch, read_json):
    fit = run_module.fit

    def fit_then_remove(*arguments, **keywords):
        result = fit(*arguments, **keywords)
        (own / "reviews.toml").unlink()
        return result

    monkeypatch.setattr(run_module, "fit", fit_then_remove)
    assert read_json(run("--max-steps", "2") / "metrics.json")["task"] == "reviews"


@pytest.mark.parametrize("change", ["changed", "removed"])
def test_a_task_file_that_changes_before_its_copy_is_made_is_refused(change, run, own, tmp_path, monkeypatch, capsys):
    start, path = run_module.make_sampler, own / "reviews.toml"

    def change_then_start(*arguments):
        if change == "removed":
            path.unlink()
        else:
            path.write_text(path.read_text().replace('"bad", "fine"', '"fine", "bad"'))
        return start(*arguments)

    monkeypatch.setattr(run_module, "make_sampler", change_then_start)
    run("--max-steps", "2", status=2)
    assert f"own/reviews.toml was {change} while the run began" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["own"]


def test_a_figure_and_an_export_take_the_task_as_it_was_in_the_run(run, own, tmp_path):
    folder = run("--epochs", "3")
    good = (own / "reviews.toml").read_text(encoding="utf-8")
    (own / "reviews.toml").write_text(good.replace('"bad", "fine"', '"fine", "bad"'), encoding="utf-8")
    finished, correct = FinishedRun(folder), []
    for batch in batches(finished.dataset("dev"), 32, torch.device("cpu")):
        correct += (finished.trained()(batch).logits.argmax(1) == batch.labels).tolist()
    assert np.mean(correct) == pytest.approx(finished.score)
    shutil.copytree(folder, tmp_path / "reviews-seed1")
    assert [len(group) for group in group_by_recipe([finished, FinishedRun(tmp_path / "reviews-seed1")]).values()] == [
        2
    ]
    other = run("--max-steps", "2", "--out", str(tmp_path / "other")).with_name("other")
    with pytest.raises(InputError, match=r"other has another task file than .*run, or one in another folder"):
        check_same_task([finished, FinishedRun(other)])
    (own / "reviews.toml").unlink()
    assert export.main([str(folder), "--to", str(tmp_path / "exported")]) == 0

"""minbert/report/answers.py: what a run says about its dev set, from its model and from its files."""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from support.factories import write_rows

from minbert.data.predictions import read_predictions
from minbert.data.readers import read_examples
from minbert.data.task_file import load_task_file
from minbert.errors import InputError
from minbert.report.answers import losses, read_answers
from minbert.report.reported_run import ReportedRun, read_runs
from minbert.training.text_model import load_run

CPU = torch.device("cpu")


def answers_of(folder):
    return read_answers(ReportedRun(folder), CPU)


@pytest.mark.parametrize("name", ["rte", "reviews", "pairs", "multi"])
def test_the_answers_of_the_model_are_those_that_the_run_wrote(name, request, read_json):
    """Its scores too, also with --dev-size, for two classes with one logit, and for the scores of a task file."""
    folder = request.getfixturevalue(name)
    answers, notes = answers_of(folder)
    metrics = read_json(folder / "metrics.json")
    assert notes == [] and len(answers) == len(metrics.get("tasks", [1]))
    for of_file in answers:
        task = of_file.task
        written = read_predictions(folder, task.name, "dev")
        expected = metrics["tasks"][task.name]["metrics"] if name == "multi" else metrics["metrics"]
        assert of_file.scores == pytest.approx(expected, abs=1e-6)
        if task.labels:
            assert [task.labels[i] for i in of_file.predictions] == written
        else:
            assert of_file.predictions.tolist() == pytest.approx(list(map(float, written)), abs=1e-5)


def test_losses_are_those_of_a_slow_loop_in_float64(rte, multi, pairs):
    by_task = {}
    for folder in (rte, multi, pairs):
        by_task |= {answers.task.name: answers for answers in answers_of(folder)[0]}
    assert set(by_task) == {"rte", "sst5", "quora", "sts", "pairs"}
    for answers in by_task.values():
        for i in range(len(answers.labels)):
            if answers.task.labels:
                expected = -math.log(answers.probabilities[i][int(answers.labels[i])])
            else:
                expected = (float(answers.predictions[i]) - float(answers.labels[i])) ** 2
            assert answers.losses[i] == pytest.approx(expected, rel=1e-9, abs=1e-12)


def test_the_loss_of_a_very_sure_mistake_is_finite_and_exact(rte):
    (task,) = ReportedRun(rte).tasks
    logits = np.array([[2000.0, 0.0], [0.0, 0.0]], np.float32)
    assert losses(task, logits, torch.tensor([1, 1])).tolist() == [2000.0, pytest.approx(math.log(2), rel=1e-15)]


def without_model(folder):
    shutil.rmtree(folder / "model")
    return folder


def test_without_a_model_the_predictions_are_read(rte, copy):
    (of_model,), _ = answers_of(rte)
    (of_files,), notes = answers_of(without_model(copy(rte)))
    assert (of_files.predictions == of_model.predictions).all() and (of_files.labels == of_model.labels).all()
    assert of_files.probabilities is None and of_files.losses is None
    assert notes == ["no calibration and no losses: the run kept no model (--save model keeps it)"]


def test_without_a_model_the_files_of_own_tasks_have_the_probabilities(reviews, pairs, copy):
    (of_model,), _ = answers_of(reviews)
    (of_files,), notes = answers_of(without_model(copy(reviews)))
    assert notes == [] and (of_files.predictions == of_model.predictions).all()
    np.testing.assert_allclose(of_files.probabilities, of_model.probabilities, rtol=1e-6)
    np.testing.assert_allclose(of_files.losses, of_model.losses, rtol=1e-5)
    (of_model,), _ = answers_of(pairs)
    (of_files,), notes = answers_of(without_model(copy(pairs, "pairs")))
    np.testing.assert_allclose(of_files.losses, of_model.losses, rtol=1e-5)
    assert notes == []


def test_predictions_at_the_limits_of_the_leaderboard_have_a_note(make_run, tmp_path):
    """The file holds 5.0 for 5.3: the correlations of the file are not exactly those of the run."""
    for split in ("train", "dev"):
        rows = [[str(i), "red fish", "green cat", str(i / 2)] for i in range(8)]
        header = ["index", "sentence1", "sentence2", "score"]
        write_rows(tmp_path / "STS-B" / f"{split}.tsv", [header, *rows])
    run = make_run("stsb", "--task", "stsb", "--data", str(tmp_path), "--max-steps", "1", "--save", "none")
    for last, note in (("4.75", []), ("5.0", ["the file of stsb holds predictions limited to 0 to 5"])):
        rows = [f"{i}\t{value}" for i, value in enumerate(["2.5"] * 7 + [last])]
        (run / "predictions" / "dev" / "STS-B.tsv").write_text("\n".join(["index\tprediction", *rows, ""]))
        (answers,), notes = answers_of(run)
        assert answers.predictions[-1] == float(last) and [text.partition(",")[0] for text in notes] == note


def test_without_model_and_predictions_one_line_says_so(rte, copy):
    folder = without_model(copy(rte))
    shutil.rmtree(folder / "predictions")
    assert answers_of(folder) == (
        [],
        ["no predictions of rte dev: the run kept neither a model nor predictions (--save model keeps the model)"],
    )


@pytest.mark.parametrize(
    "old, new, problem",
    [("\n", "\nx\tentailment\n", "26 predictions do not fit 25 examples"),
     ("entailment", "no", "the prediction file holds other answers than those of the task")],
)  # fmt: skip
def test_predictions_that_do_not_fit_are_not_shown(rte, copy, old, new, problem):
    folder = without_model(copy(rte))
    path = folder / "predictions" / "dev" / "RTE.tsv"
    path.write_text(path.read_text().replace(old, new, 1))
    assert answers_of(folder) == ([], [f"no predictions of rte dev: {problem}"])


def test_probabilities_of_other_labels_or_that_are_no_number_are_not_shown(reviews, copy):
    folder = without_model(copy(reviews))
    path = folder / "predictions" / "reviews-dev.csv"
    text = path.read_text()
    for changed, problem in (
        (text.replace("fine", "x", 1), "does not hold the probabilities of bad, fine, good"),
        (text.replace(text.split(",")[-1], "inf\n"), "a number that is not finite"),
    ):
        path.write_text(changed)
        answers, (note,) = answers_of(folder)
        assert answers == [] and problem in note


def test_data_that_changed_since_the_run_are_not_mixed_with_its_predictions(reviews, copy, own_data, tmp_path):
    moved = tmp_path / "data"
    shutil.copytree(own_data, moved)
    assert read_answers(ReportedRun(reviews, moved), CPU)[1] == []
    (moved / "dev.csv").write_text("id,review,stars\n1,red,bad\n", encoding="utf-8")
    answers, notes = read_answers(ReportedRun(reviews, moved), CPU)
    assert (answers, notes) == ([], ["no predictions of reviews dev: the data have changed since the run"])
    (moved / "dev.csv").unlink()
    (note,) = read_answers(ReportedRun(reviews, moved), CPU)[1]
    assert "dev.csv does not exist" in note


def test_a_task_file_may_be_gone_if_the_data_are_there(make_run, own_data, tmp_path):
    data = tmp_path / "data"
    shutil.copytree(own_data, data)
    run = make_run("gone", "--task", str(data / "reviews.toml"), "--max-steps", "1")
    (data / "reviews.toml").unlink()
    (answers,), notes = answers_of(run)
    expected = read_examples(load_task_file(own_data / "reviews.toml"), "", "dev").rows
    assert notes == [] and [e.text for e in answers.examples] == [e.text for e in expected]


def test_a_run_whose_loss_was_not_finite_has_no_predictions(rte, copy):
    folder = copy(rte)
    values = json.loads((folder / "metrics.json").read_text())
    values |= {"score": None, "history": None, "failed": True, "failure": "step 3: the loss is not finite"}
    (folder / "metrics.json").write_text(json.dumps(values))
    run = ReportedRun(folder)
    assert (run.state, run.failure, run.history) == ("failed", "step 3: the loss is not finite", [])
    assert read_answers(run, CPU) == ([], ["no predictions: a loss was not finite"])


def test_weights_that_are_not_finite_give_no_predictions(rte, copy, monkeypatch):
    model = load_run(rte)
    torch.nn.init.constant_(model.model.bert.pooler.weight, float("nan"))
    monkeypatch.setattr("minbert.report.answers.load_run", lambda folder: model)
    assert answers_of(rte) == ([], ["no predictions of rte dev: an output of the model is not a finite number"])


def test_runs_are_named_by_their_folders_and_equal_names_by_their_paths(rte, reviews, copy, tmp_path):
    one, other = copy(rte, "a/run"), copy(reviews, "b/run")
    assert list(read_runs([one, rte])) == ["run", "rte-smart-seed0"]
    assert list(read_runs([one, other, rte])) == [str(one), str(other), "rte-smart-seed0"]
    with pytest.raises(InputError, match="a RUN is given twice"):
        read_runs([one, tmp_path / "b" / ".." / "a" / "run"])

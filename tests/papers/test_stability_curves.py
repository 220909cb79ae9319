"""The scripts that read logs and scores: failed_runs and loss_and_score."""

import csv
import json
import math
import shutil
from dataclasses import replace

import pytest
from scipy.stats import spearmanr

from minbert.report.picture_style import new_figure
from minbert.training.step_lines import read_log
from papers.finished_run import FinishedRun, study_row
from papers.stability import failed_runs, loss_and_score
from papers.stability.failed_runs import LOSS, SCORE, draw_group, guesses, majority, read_curves
from papers.stability.loss_and_score import make_result, rank_correlation
from study.results import Row


def row(train_loss: float | None, score: float | None, failed: bool = False, method: str = "m", folder="x") -> Row:
    return Row("rte", method, {}, 0, 0, 0, score, failed, "", train_loss, None, 1.0, {}, [], folder)


def read_table(path) -> list[dict]:
    return list(csv.DictReader(path.open(), delimiter="\t"))


def test_curves_are_those_of_log_and_metrics(runs):
    curves, log = read_curves(runs[0]), read_log(runs[0].folder)
    assert curves[LOSS] == {line["step"]: line["loss"] for line in log} and list(curves[LOSS]) == [2]
    assert curves[SCORE] == {1: pytest.approx(100 * runs[0].score)}


def test_the_line_of_a_guess(runs):
    labels = [example.label for example in runs[0].dataset().examples]
    assert majority(runs[0]) == pytest.approx(100 * max(labels.count(0), labels.count(1)) / len(labels))


def test_guessing_one_logit_for_two_classes_costs_ln_2(runs):
    quora = FinishedRun(runs[0].folder)
    quora.settings = replace(quora.settings, task="quora")
    quora.metrics["majority"] = {"accuracy": 0.6}
    assert quora.tasks[0].outputs == 1
    assert guesses([quora]) == {LOSS: pytest.approx(math.log(2)), SCORE: pytest.approx(60)}


def test_a_diverged_run_first_hides_no_majority(runs):
    diverged = FinishedRun(runs[0].folder)
    diverged.metrics["majority"] = None
    assert guesses([diverged, runs[1]])[SCORE] == majority(runs[1])
    assert guesses([diverged])[SCORE] is None


def test_a_curve_of_one_point_has_a_marker():
    axes = new_figure(height=2).add_subplot()
    draw_group(axes, [{1: 50.0}, {1: 60.0}, {}], "black")
    draw_group(axes, [{1: 50.0, 2: 60.0}], "black")
    assert [line.get_marker() for line in axes.get_lines()] == ["o", "o", "", "o", ""]


def test_the_row_of_a_run_has_its_numbers(runs):
    values = study_row(runs[1])
    assert (values.score, values.failed, values.train_loss) == (
        runs[1].score, runs[1].failed, runs[1].metrics["train_loss"],
    )  # fmt: skip
    assert (values.method, values.task, values.folder) == ("rte", "rte", runs[1].folder)


def test_failed_runs_writes_its_files(runs, tmp_path):
    assert failed_runs.main([*(str(run.folder) for run in runs), "--out", str(tmp_path)]) == 0
    rows = read_table(tmp_path / "failed_runs.tsv")
    assert {(entry["run"], entry["quantity"]) for entry in rows} == {
        (run.name, quantity) for run in runs for quantity in (LOSS, SCORE)
    }
    assert (tmp_path / "failed_runs.png").exists()


def test_a_run_without_a_log_is_refused(runs, tmp_path, capsys):
    folder = shutil.copytree(runs[0].folder, tmp_path / "copy")
    (folder / "log.jsonl").unlink()
    assert failed_runs.main([str(folder), "--out", str(tmp_path)]) == 2
    assert "has no training loss in log.jsonl" in capsys.readouterr().err


def test_a_diverged_run_has_a_loss_and_no_scores(runs, tmp_path):
    folder = shutil.copytree(runs[0].folder, tmp_path / "copy")
    values = json.loads((folder / "metrics.json").read_text())
    unknown = dict.fromkeys(("score", "metrics", "majority", "kept_epoch", "history", "train_loss"))
    (folder / "metrics.json").write_text(json.dumps(values | unknown | {"failed": True}))
    assert majority(FinishedRun(folder)) is None and read_curves(FinishedRun(folder))[SCORE] == {}
    assert failed_runs.main([str(folder), "--out", str(tmp_path)]) == 0


def test_the_correlation_is_scipys_without_failed_runs():
    pairs = [(0.1, 0.7), (0.2, 0.72), (0.2, 0.6), (0.5, 0.55), (0.001, 0.71)]
    rows = [row(*pair) for pair in pairs] + [row(0.69, 0.5, failed=True), row(None, None, failed=True)]
    assert rank_correlation(rows) == pytest.approx(spearmanr(*zip(*pairs)).statistic)
    assert rank_correlation(rows[:2] + rows[-2:]) is None


def test_the_name_of_a_recipe_leaves_out_the_task_that_the_title_has():
    rows = [row(0.1, 0.7), row(0.3, 0.5)]
    cell = make_result("rte-devlin-lr=0.001", rows).cell
    assert (cell.task, cell.method, cell.rows) == ("rte", "devlin-lr=0.001", rows)


def test_loss_and_score_writes_its_files(runs, tmp_path, capsys):
    folders = [str(run.folder) for run in runs]
    assert loss_and_score.main([*folders, "--out", str(tmp_path)]) == 0
    rows = read_table(tmp_path / "loss_and_score.tsv")
    assert [float(entry["train_loss"]) for entry in rows] == [
        pytest.approx(run.metrics["train_loss"], rel=1e-5) for run in runs
    ]
    assert [entry["failed"] for entry in rows] == [str(int(run.failed)) for run in runs]
    assert "rank correlation" not in capsys.readouterr().out  # of two runs it says nothing


def test_runs_without_a_score_give_no_picture(runs, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loss_and_score, "study_row", lambda run: row(math.nan, None, True, folder=run.folder))
    assert loss_and_score.main([str(runs[0].folder), "--out", str(tmp_path)]) == 2
    assert "no RUN has both a training loss and a score" in capsys.readouterr().err


def test_losses_of_exactly_0_have_no_logarithm(runs, tmp_path, monkeypatch, recwarn):
    monkeypatch.setattr(loss_and_score, "study_row", lambda run: row(0.0, 0.7, folder=run.folder))
    assert loss_and_score.main([str(runs[0].folder), "--out", str(tmp_path)]) == 0
    assert not recwarn.list

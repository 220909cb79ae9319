"""papers/multitask/curves.py: the scores of each task over the epochs, as metrics.json has them."""

from dataclasses import replace
from pathlib import Path

import pytest

import multitask
from minbert.errors import InputError
from papers.finished_run import FinishedRun, study_row
from papers.multitask.curves import group_runs, main, majorities, read_curves

SMALL = "--train-size 8 --epochs 2 --batch-size 8 --max-length 24 --device cpu --precision fp32 --save none".split()


@pytest.fixture(scope="module")
def make_several(model_folder, course):
    """Makes a run of multitask.py."""

    def make(folder: Path, *flags: str, tasks: str = "sst5 sts") -> FinishedRun:
        small = [*SMALL, "--model", str(model_folder), "--data", str(course), "--tasks", *tasks.split()]
        assert multitask.main([*small, *flags, "--out", str(folder)]) == 0
        return FinishedRun(folder)

    return make


@pytest.fixture(scope="module")
def several(make_several, tmp_path_factory) -> list[FinishedRun]:
    """Two seeds of one method, and another method."""
    folder = tmp_path_factory.mktemp("several")
    return [
        make_several(folder / "sst5+sts-baseline-seed0"),
        make_several(folder / "sst5+sts-baseline-seed1", "--seed", "1"),
        make_several(folder / "sst5+sts-lhuc-seed0", "--option", "lhuc"),
    ]


def test_the_lines_are_the_methods(several):
    groups = group_runs(several)
    assert groups == {"baseline": several[:2], "lhuc": several[2:]}


def test_the_curves_have_the_scores_of_each_task(several):
    curves = read_curves(group_runs(several))
    assert list(curves) == ["sst5", "sts"]
    for task, lines in curves.items():
        for run, curve in zip(several, [*lines["baseline"], *lines["lhuc"]], strict=True):
            expected = {e["epoch"]: 100 * e["dev"]["tasks"][task]["score"] for e in run.metrics["history"]}
            assert curve == pytest.approx(expected) and list(curve) == [1, 2]
    assert study_row(several[0]).history == several[0].metrics["history"]  # reading the curves changes no run


def test_the_constant_line_is_the_most_frequent_class(several):
    labels = several[0].dataset("dev", several[0].tasks[0]).labels
    share = labels.long().bincount().max().item() / len(labels)
    assert majorities(several[0]) == pytest.approx({"sst5": 100 * share, "sts": 0.0})


def test_runs_of_one_task_of_other_tasks_and_of_other_dev_sets_are_refused(several, make_several, runs, tmp_path):
    smaller = FinishedRun(several[1].folder)
    smaller.settings = replace(smaller.settings, dev_size=5)
    for others, text in (
        (several[:1] * 2, "a RUN is given twice"),
        (runs[:1], "has one task only: this figure needs runs of multitask.py"),
        ([several[0], make_several(tmp_path / "other", tasks="sts sst5")], "has other tasks than"),
        ([several[0], smaller], "has another --dev-size than"),
    ):
        with pytest.raises(InputError, match=text):
            group_runs(others)


def test_the_script_writes_table_and_picture(several, tmp_path):
    assert main([*(str(run.folder) for run in several), "--out", str(tmp_path)]) == 0
    rows = [line.split("\t") for line in (tmp_path / "curves.tsv").read_text().splitlines()]
    assert rows[0] == ["task", "line", "run", "epoch", "score"] and len(rows) == 1 + 2 * 3 * 2
    assert (tmp_path / "curves.png").exists()
    assert main([str(several[0].folder), "--out", str(tmp_path), "--device", "cpu"]) == 2

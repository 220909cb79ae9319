"""papers/lnsr/gap.py: training score minus dev score of the weights that a run kept."""

import statistics
from types import SimpleNamespace

import pytest
import torch

from minbert.errors import InputError
from papers.lnsr.gap import compute_training_score, main, mean_rows, read_scores
from tests.papers.conftest import make_run

CPU = torch.device("cpu")


def entry(epoch: int, train: float, dev: float) -> dict:
    return {"epoch": epoch, "train": {"score": train}, "dev": {"score": dev}}


def test_the_scores_are_those_of_the_epoch_that_was_kept():
    history = [entry(1, 0.6, 0.5), entry(2, 0.9, 0.8), entry(3, 1.0, 0.7)]
    run = SimpleNamespace(metrics={"history": history, "kept_epoch": 2})
    assert read_scores(run, 32, CPU) == (0.9, 0.8)


def test_the_computed_training_score_is_the_one_that_a_run_writes(tmp_path):
    run = make_run(tmp_path / "run", "--evaluate", "dev", "train", "--lr", "1e-2")
    train, dev = read_scores(run, 32, CPU)
    assert train != dev == run.score
    assert compute_training_score(run, 7, CPU) == pytest.approx(train)
    del run.metrics["history"][-1]["train"]
    assert read_scores(run, 7, CPU) == (pytest.approx(train), dev)


def test_means_and_standard_deviations_are_over_the_runs_of_a_line():
    train, dev = (0.9, 0.95, 0.7), (0.6, 0.8, 0.65)
    rows = mean_rows({"plain": list(zip(train, dev)), "one": [(0.5, 0.75)]})
    gaps = [0.3, 0.15, 0.05]
    expected = [x for values in (train, dev, gaps) for x in (statistics.mean(values), statistics.stdev(values))]
    assert rows[0][:2] == ("plain", 3) and rows[0][2:] == pytest.approx(expected)
    assert rows[1] == ("one", 1, 0.5, None, 0.75, None, -0.25, None)


def test_the_script_writes_tables_and_picture(runs, tmp_path):
    assert main([*(str(run.folder) for run in runs), "--device", "cpu", "--out", str(tmp_path)]) == 0
    assert (tmp_path / "gap.png").exists()
    rows = [line.split("\t") for line in (tmp_path / "gap.tsv").read_text().splitlines()]
    assert [row[:2] for row in rows] == [["line", "run"], ["rte", "rte-seed0"], ["rte", "rte-seed1"]]
    for row, run in zip(rows[1:], runs, strict=True):
        assert float(row[3]) == pytest.approx(run.score, abs=1e-6)
        assert float(row[4]) == pytest.approx(float(row[2]) - float(row[3]), abs=1e-5)
    means = (tmp_path / "gap-means.tsv").read_text().splitlines()
    assert len(means) == 2 and means[1].startswith("rte\t2\t")


def test_a_run_with_neither_training_score_nor_model_is_refused(tmp_path):
    run = make_run(tmp_path / "run", "--save", "none")
    with pytest.raises(InputError, match="kept no model"):
        read_scores(run, 32, CPU)

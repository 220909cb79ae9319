"""papers/lnsr/curves.py: scores and losses of each line, and the dev loss of the models that were kept."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import train
from minbert.errors import InputError
from minbert.training.step_lines import read_log
from papers.finished_run import FinishedRun
from papers.lnsr.curves import (
    DEV_LOSS,
    DEV_LOSS_BY_STEPS,
    LOSS,
    SCORE,
    dev_loss,
    dev_loss_curves,
    group_lengths,
    longest,
    main,
)
from papers.lnsr.curves import make_panels as panels_of

CPU = torch.device("cpu")


def copy_run(run: FinishedRun, folder: Path, **metrics) -> FinishedRun:
    """A copy of a run with other values in metrics.json."""
    shutil.copytree(run.folder, folder)
    values = run.metrics | metrics
    (folder / "metrics.json").write_text(json.dumps(values))
    return FinishedRun(folder)


@pytest.fixture(scope="module")
def lengths(tmp_path_factory, model_folder, data_folder) -> list[FinishedRun]:
    """One epoch with seed 0, and two epochs with seeds 0 and 1, of 2 steps each."""
    folder, runs = tmp_path_factory.mktemp("lengths"), []
    small = "--train-size 16 --batch-size 8 --max-length 32 --device cpu --precision fp32 --lr 1e-2".split()
    small += ["--model", str(model_folder), "--data", str(data_folder)]
    for epochs, seed in ((1, 0), (2, 0), (2, 1)):
        out = folder / f"rte-plain-epochs={epochs}-seed{seed}"
        assert train.main([*small, "--epochs", str(epochs), "--seed", str(seed), "--out", str(out)]) == 0
        runs.append(FinishedRun(out))
    return runs


def test_runs_of_several_lengths_are_one_line(lengths):
    assert group_lengths(lengths) == {"rte-plain": lengths}
    assert longest(lengths) == lengths[1:]


def test_the_dev_loss_is_the_mean_over_the_examples(lengths):
    """A slow reference: -log of the probability of the label, one example at a time."""
    run = lengths[2]
    model, dataset, losses = run.trained().double(), run.dataset(), []
    for row in range(len(dataset)):
        batch = dataset.collate([row])
        with torch.no_grad():
            probabilities = model(batch).logits[0].softmax(0)
        losses.append(-probabilities[int(batch.labels[0])].log().item())
    assert dev_loss(run, 13, CPU) == pytest.approx(sum(losses) / 40, rel=1e-5)


def test_each_run_that_kept_a_model_is_a_point_of_the_dev_loss(lengths, tmp_path):
    curves = dev_loss_curves(lengths, "epochs", 32, CPU)
    assert [list(curve) for curve in curves] == [[1, 2], [2]]
    assert curves[0][1] == pytest.approx(dev_loss(lengths[0], 32, CPU))
    without = copy_run(lengths[0], tmp_path / "run")
    shutil.rmtree(without.folder / "model")
    assert dev_loss_curves([without], "epochs", 32, CPU) == []


def with_changes(run: FinishedRun, settings: dict, **metrics) -> FinishedRun:
    """The same run with other settings and metrics."""
    other = FinishedRun(run.folder)
    other.settings, other.metrics = replace(run.settings, **settings), run.metrics | metrics
    return other


def test_no_point_of_the_dev_loss_overwrites_another(lengths, monkeypatch):
    monkeypatch.setattr("papers.lnsr.curves.dev_loss", lambda run, *_: run.metrics["steps"])
    other_heads = [with_changes(lengths[0], {"init_seed": 5}), with_changes(lengths[0], {"data_seed": 5})]
    best = with_changes(lengths[1], {"keep": "best"}, kept_epoch=1)
    curves = dev_loss_curves([lengths[0], *other_heads, best], "epochs", 32, CPU)
    assert curves == [{1: 2, 2: 4}, {1: 2}, {1: 2}]


def test_lengths_within_an_epoch_are_counted_in_steps(lengths, monkeypatch):
    monkeypatch.setattr("papers.lnsr.curves.dev_loss", lambda run, *_: run.metrics["steps"])
    short = with_changes(lengths[0], {"epochs": None, "max_steps": 1}, steps=1)  # its only epoch ends after a step
    panel = panels_of({"rte-plain": [short, *lengths]}, 32, CPU)[-1]
    assert (panel.y, panel.lines["rte-plain"]) == (DEV_LOSS_BY_STEPS, [{1: 1, 2: 2, 4: 4}, {4: 4}])
    of_two_sizes = {"large": lengths[:2], "small": [with_changes(lengths[0], {}, steps=1)]}
    assert panels_of(of_two_sizes, 32, CPU)[-1].y == DEV_LOSS


def test_the_panels_have_the_curves_of_the_longest_runs(lengths):
    panels = {panel.y: panel.lines["rte-plain"] for panel in panels_of({"rte-plain": lengths}, 32, CPU)}
    assert list(panels) == [SCORE, LOSS, DEV_LOSS]
    assert [list(curve) for curve in panels[SCORE]] == [[1, 2], [1, 2]]
    for curve, loss, run in zip(panels[SCORE], panels[LOSS], lengths[1:], strict=True):
        assert curve[2] == pytest.approx(100 * run.score)
        assert loss == {row["step"]: row["loss"] for row in read_log(run.folder)} and max(loss) == 4


def test_a_run_without_a_log_and_runs_of_two_tasks_are_refused(runs, tmp_path):
    run = copy_run(runs[0], tmp_path / "run")
    (run.folder / "log.jsonl").unlink()
    with pytest.raises(InputError, match=r"rte: log\.jsonl of a run is missing"):
        panels_of({"rte": [run]}, 32, CPU)
    other = FinishedRun(runs[1].folder)
    other.settings = replace(other.settings, task="mrpc")
    with pytest.raises(InputError, match="of several tasks: this figure needs runs of one task"):
        group_lengths([runs[0], other])


def test_the_script_writes_table_and_picture(lengths, runs, tmp_path, capsys):
    assert main([*(str(run.folder) for run in lengths), "--device", "cpu", "--out", str(tmp_path)]) == 0
    rows = [line.split("\t") for line in (tmp_path / "curves.tsv").read_text().splitlines()]
    assert rows[0] == ["line", "run", "quantity", "epoch_or_step", "value"]
    assert {row[0] for row in rows[1:]} == {"rte-plain"}
    assert [row[1:4] for row in rows if row[2] == DEV_LOSS] == [["1", DEV_LOSS, "1"], ["1", DEV_LOSS, "2"],
                                                               ["2", DEV_LOSS, "2"]]  # fmt: skip
    assert (tmp_path / "curves.png").exists() and "no dev loss" not in capsys.readouterr().out
    without = copy_run(runs[0], tmp_path / "without")
    shutil.rmtree(without.folder / "model")
    assert main([str(without.folder), "--device", "cpu", "--out", str(tmp_path / "out")]) == 0
    assert "no RUN kept a model (a study needs save=model), so there is no dev loss" in capsys.readouterr().out

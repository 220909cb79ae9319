"""Figures 4 to 7 of the dynamics paper: which runs are compared, on which examples; and which runs share a line."""

from copy import copy
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from minbert.command_line import Parser
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from papers.dynamics import consistency
from papers.dynamics.consistency import compare, datasets_of, pairs_of_seeds, pairs_of_tasks
from papers.finished_run import FinishedRun
from papers.lines import Panel, group_runs, layer_figure
from tests.papers.conftest import make_run

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def mrpc(tmp_path_factory) -> FinishedRun:
    return make_run(tmp_path_factory.mktemp("runs") / "mrpc-seed0", "--task", "mrpc")


def like(run: FinishedRun, name: str, task: str = "rte", **settings) -> FinishedRun:
    """The run under another name, with other settings."""
    other = copy(run)
    other.folder = Path(f"/nowhere/{name}")
    other.settings = replace(run.settings, task=task, **settings)
    vars(other)["tasks"] = [TASKS[task]]
    return other


def names(pairs) -> list[str]:
    return [f"{a.name} {b.name}" for a, b in pairs]


def test_runs_that_differ_in_their_seeds_are_one_line_named_by_the_task(runs):
    mrpc = [like(runs[0], f"mrpc-seed{seed}", "mrpc", seed=seed) for seed in (5, 6)]
    groups = group_runs([mrpc[0], *runs, mrpc[1]])
    assert groups == {"mrpc": mrpc, "rte": runs}


def test_lines_of_one_task_are_named_by_their_folders(runs):
    fast, slow = (like(runs[0], f"rte-{name}-seed0", lr=lr) for name, lr in (("fast", 1e-3), ("slow", 1e-5)))
    assert list(group_runs([fast, slow])) == ["rte-fast", "rte-slow"]
    same = [like(runs[0], f"{folder}/rte-seed0", lr=lr) for folder, lr in (("a", 1e-3), ("b", 1e-5))]
    assert list(group_runs(same)) == ["/nowhere/a/rte-seed0", "/nowhere/b/rte-seed0"]


def test_runs_that_cannot_be_in_one_figure_are_refused(runs, model_folder):
    with pytest.raises(InputError, match="a RUN is given twice"):
        group_runs([runs[0], runs[0]])
    with pytest.raises(InputError, match="has another model than"):
        group_runs([runs[0], like(runs[0], "x", model=str(model_folder))])
    several = like(runs[0], "x")
    vars(several)["tasks"] = [TASKS["rte"], TASKS["mrpc"]]
    with pytest.raises(InputError, match="x has several tasks"):
        group_runs([several])
    failed = like(runs[0], "x")
    failed.metrics = {**runs[0].metrics, "score": None}
    with pytest.raises(InputError, match="a loss was not finite"):
        group_runs([failed])


def test_between_seeds_all_pairs_of_a_task_are_compared(runs):
    three = [like(runs[0], f"r{seed}", seed=seed) for seed in (0, 1, 2)]
    pairs = pairs_of_seeds({"rte": three, "mrpc": runs})
    assert names(pairs["rte"]) == ["r0 r1", "r0 r2", "r1 r2"]
    assert names(pairs["mrpc"]) == ["rte-seed0 rte-seed1"]
    with pytest.raises(InputError, match="needs two runs of rte"):
        pairs_of_seeds({"mrpc": runs, "rte": three[:1]})


def test_between_tasks_the_runs_of_two_tasks_are_compared_in_order(runs):
    groups = {task: [like(runs[0], f"{task}{i}", task) for i in (0, 1)] for task in ("rte", "mrpc", "cola")}
    pairs = pairs_of_tasks(groups)
    assert names(pairs["rte and mrpc"]) == ["rte0 mrpc0", "rte1 mrpc1"]
    assert list(pairs) == ["rte and mrpc", "rte and cola", "mrpc and cola"]
    with pytest.raises(InputError, match="equally many runs"):
        pairs_of_tasks(groups | {"rte": groups["rte"][:1]})
    with pytest.raises(InputError, match="two or more tasks"):
        pairs_of_tasks({"rte": runs})
    with pytest.raises(InputError, match="two or more tasks"):
        pairs_of_tasks({"rte-fast": runs, "rte-slow": runs, "mrpc": groups["mrpc"]})


def test_two_tasks_are_compared_on_dev_examples_of_both(runs, mrpc):
    rte_examples, mrpc_examples = datasets_of((runs[0], mrpc), "tasks", 13)
    whole = mrpc.dataset()
    assert [len(rte_examples), len(mrpc_examples)] == [13, 13]
    assert (rte_examples.task.name, mrpc_examples.task.name) == ("rte", "mrpc")
    assert {row.text for row in mrpc_examples.examples} <= {row.text for row in whole.examples}
    assert len(datasets_of((runs[0], mrpc), "tasks", 1000)[1]) == len(whole)
    (dev,) = datasets_of(tuple(runs), "seeds", 13)
    assert len(dev) == 277


def options(*argv: str):
    parser = Parser()
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=2000)
    return parser.parse_args(argv)


def test_a_model_agrees_with_itself_and_the_comparison_is_symmetric(runs, mrpc):
    datasets = datasets_of((runs[0], mrpc), "tasks", 30)
    same = compare((runs[0], runs[0]), datasets, options(), CPU)
    assert not any(same.divergences)
    assert [d.distance for d in same.distances] == pytest.approx([0] * 5, abs=1e-9)
    there, back = (compare(pair, datasets, options(), CPU) for pair in ((runs[0], mrpc), (mrpc, runs[0])))
    assert there.divergences == pytest.approx(back.divergences, abs=1e-12) and min(there.divergences) > 0
    assert [d.distance for d in there.distances] == pytest.approx([d.distance for d in back.distances], abs=1e-9)


def read(path: Path) -> tuple[list[str], list[list[str]]]:
    header, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    return header, rows


def test_the_script_compares_two_seeds(runs, tmp_path, capsys):
    argv = [*(str(run.folder) for run in runs), "--tokens", "1000", "--device", "cpu", "--out", str(tmp_path)]
    assert consistency.main(["--between", "seeds", *argv]) == 0
    assert capsys.readouterr().err == ""
    header, rows = read(tmp_path / "consistency-seeds.tsv")
    assert header == ["line", "first", "second", "layer", "divergence", "distance", "literal", "n", "k1", "k2"]
    assert [row[:4] for row in rows] == [["rte", "rte-seed0", "rte-seed1", str(layer)] for layer in range(5)]
    assert [row[4] == "" for row in rows] == [True, False, False, False, False]  # the embeddings have no attention
    assert all(float(row[4]) > 0 for row in rows[1:]) and all(float(row[5]) > 0 for row in rows)
    assert (tmp_path / "consistency-seeds.png").stat().st_size > 10_000


def test_the_script_compares_two_tasks(runs, mrpc, tmp_path, capsys):
    argv = [str(runs[0].folder), str(mrpc.folder), "--examples", "30", "--device", "cpu", "--out", str(tmp_path)]
    assert consistency.main(["--between", "tasks", *argv]) == 0
    assert capsys.readouterr().err == ""
    _, rows = read(tmp_path / "consistency-tasks.tsv")
    assert [row[:4] for row in rows] == [["rte and mrpc", "rte-seed0", "mrpc-seed0", str(layer)] for layer in range(5)]
    (n,) = {int(row[7]) for row in rows}
    datasets = datasets_of((runs[0], mrpc), "tasks", 30)
    assert n == sum(len(dataset.ids) for dataset in datasets)


def test_the_script_needs_two_runs(runs, tmp_path, capsys):
    for between, problem in (("seeds", "needs two runs of rte"), ("tasks", "needs runs of two or more tasks")):
        assert consistency.main(["--between", between, str(runs[0].folder), "--out", str(tmp_path)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert problem in line


def test_the_picture_has_a_line_of_means_and_a_band_for_several_curves():
    curves = [{1: 1.0, 2: 2.0}, {1: 3.0, 2: 4.0}]
    figure = layer_figure("title", [Panel("y", {"a": curves, "b": curves[:1]})])
    (axes,) = figure.axes
    first, second = axes.lines
    assert (list(first.get_xdata()), list(first.get_ydata())) == ([1, 2], [2.0, 3.0])
    assert list(second.get_ydata()) == [1.0, 2.0]
    assert len(axes.collections) == 1  # no band around one curve
    assert [text.get_text() for text in figure.legends[0].texts] == ["a: mean of 2", "b"]
    assert "bands" in axes.get_xlabel()
    assert all(a < b for a, b in pairwise(axes.get_xticks()))


def test_a_run_without_a_model_is_refused_before_the_others_are_computed(runs, tmp_path, monkeypatch, capsys):
    made = make_run(tmp_path / "rte-seed2", "--seed", "2", "--save", "none")
    monkeypatch.setattr(consistency, "compare", None)
    argv = ["--between", "seeds", *(str(run.folder) for run in [*runs, made]), "--out", str(tmp_path / "out")]
    assert consistency.main(argv) == 2
    assert "rte-seed2 kept no model" in capsys.readouterr().err

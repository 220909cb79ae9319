"""Gradient norms: from the file of a run to the lines of the picture."""

import csv
import json
import math

import pytest

from minbert.errors import InputError
from minbert.report.picture_style import new_figure
from papers.stability.gradients import (
    WEIGHTS,
    draw_panel,
    geometric_mean,
    main,
    norm_curve,
    parameter_names,
    read_norms,
    recorded_layers,
    spread_out,
)
from papers.stability.runs import KINDS, group_runs, kind
from tests.papers.conftest import make_run
from tests.support.factories import make_model


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """Two runs with recorded gradients, of a method with a penalty."""
    folder = tmp_path_factory.mktemp("recorded")
    flags = ["--record", "gradients", "--record-every", "1", "--option", "l2sp"]
    return [make_run(folder / f"rte-l2sp-seed{seed}", *flags, "--seed", str(seed)) for seed in (0, 1)]


def made_up(run, tmp_path, lines: list[str]):
    """The run with these lines as its recorded gradients."""
    run.folder = tmp_path
    (tmp_path / "gradients.jsonl").write_text("".join(line + "\n" for line in lines))
    return run


def test_norms_are_read_by_term(recorded):
    whole, task = read_norms(recorded[0], "all"), read_norms(recorded[0], "task")
    assert list(whole) == list(task) == [1, 2]
    assert whole[2]["bert.pooler.weight"] > 0
    with pytest.raises(InputError, match=r"no term smart, the terms are all, task, l2sp\.distance"):
        read_norms(recorded[0], "smart")


def test_without_a_penalty_the_whole_gradient_is_that_of_the_task(runs, tmp_path):
    run = made_up(make_copy(runs[0]), tmp_path, ['{"step": 1, "gradients": {"all": {"bert.pooler.weight": 2.0}}}'])
    assert read_norms(run, "task") == read_norms(run, "all") == {1: {"bert.pooler.weight": 2.0}}


def test_a_step_without_the_term_is_left_out(runs, tmp_path):
    """mine has no penalty on a last batch that is too small."""
    terms = [{"all": {"w": 3.0}, "task": {"w": 1.0}, "mine.information": {"w": 2.0}}, {"all": {"w": 4.0}}]
    lines = [json.dumps({"step": step, "gradients": of_step}) for step, of_step in enumerate(terms, start=1)]
    run = made_up(make_copy(runs[0]), tmp_path, lines)
    assert read_norms(run, "mine.information") == {1: {"w": 2.0}}
    assert read_norms(run, "task") == {1: {"w": 1.0}, 2: {"w": 4.0}}
    with pytest.raises(InputError, match=r"no term smart, the terms are all, task, mine\.information"):
        read_norms(run, "smart")


def test_the_names_are_those_of_the_model():
    model = make_model()
    for weight in WEIGHTS:
        for parameter in parameter_names(weight, range(3), "rte").values():
            assert model.get_parameter(parameter).dim() == 2


def test_layers_are_found_in_their_order_and_spread_out():
    steps = {10: {f"bert.layers.{i}.attention.query.weight": 1.0 for i in (10, 2, 0)} | {"bert.pooler.weight": 1.0}}
    assert recorded_layers([steps]) == [0, 2, 10]
    assert recorded_layers([{1: {"bert.layers.x.query": 1.0}}]) == []
    frozen = {10: {"bert.pooler.weight": 1.0}}
    assert recorded_layers([frozen, steps]) == [0, 2, 10]
    assert spread_out(range(24), 5) == [0, 6, 12, 17, 23]
    assert spread_out([0], 5) == [0] and spread_out([], 5) == []
    assert spread_out(range(3), 5) == [0, 1, 2]


def test_the_mean_is_geometric_over_the_runs_that_have_the_step():
    curves = [norm_curve({1: {"w": 1.0}, 2: {"w": 8.0}}, "w"), norm_curve({1: {"w": 100.0}, 3: {"w": 0.0}}, "w")]
    assert curves[1] == {1: 100.0}  # 0 has no logarithm
    assert geometric_mean(curves) == {1: pytest.approx(math.sqrt(1 * 100)), 2: pytest.approx(8)}
    assert norm_curve({1: {"v": 1.0}, 2: {"w": -1.0}}, "w") == {}


def test_runs_are_grouped_failed_ones_first(recorded):
    (recorded[0].metrics["failed"], recorded[1].metrics["failed"]) = (False, True)
    groups = group_runs(recorded)
    assert [(group.recipe, group.kind, group.runs) for group in groups] == [
        ("rte-l2sp", KINDS[0], [recorded[1]]),
        ("rte-l2sp", KINDS[1], [recorded[0]]),
    ]
    assert groups[0].title == "rte-l2sp: 1 failed run"
    assert kind(recorded[1]) == "failed"


def test_the_script_writes_its_files(recorded, tmp_path):
    argv = ["--weights", "all", "--layers", "2", "--term", "task", "--out", str(tmp_path)]
    assert main([*(str(run.folder) for run in recorded), *argv]) == 0
    rows = list(csv.DictReader((tmp_path / "gradients.tsv").open(), delimiter="\t"))
    assert {row["weight"] for row in rows} == set(WEIGHTS)
    assert {row["line"] for row in rows} == {"layer 0", "layer 3", "pooler", "classifier"}
    norms = [read_norms(run, "task")[2]["bert.layers.3.feed_forward.up.weight"] for run in recorded]
    values = [
        (int(row["runs"]), float(row["norm"]))
        for row in rows
        if (row["weight"], row["line"], row["step"]) == ("feed_forward.up", "layer 3", "2")
    ]
    assert math.prod(norm**count for count, norm in values) == pytest.approx(norms[0] * norms[1], rel=1e-4)


@pytest.mark.parametrize(
    "line",
    ["{", "[]", '{"step": 1}', '{"step": 1, "gradients": 3}', '{"step": 1, "gradients": {"all": 3}}', "[" * 100_000],
    ids=lambda line: line[:40],
)
def test_a_broken_file_is_named_with_its_line(runs, tmp_path, line):
    good = json.dumps({"step": 1, "gradients": {"all": {"bert.pooler.weight": 1.0}}})
    run = made_up(make_copy(runs[0]), tmp_path, [good, line])
    with pytest.raises(InputError, match=r"gradients\.jsonl line 2 is not a line of recorded gradients"):
        read_norms(run, "all")


def test_a_single_point_has_a_marker():
    axes = new_figure(height=2).add_subplot()
    draw_panel(axes, {"layer 0": {10: 1.0}, "pooler": {10: 1.0, 20: 2.0}, "classifier": {}})
    assert [line.get_marker() for line in axes.get_lines()] == ["o", "", ""]


def test_a_frozen_run_first_hides_no_layer_of_the_others(recorded, tmp_path):
    frozen = make_run(tmp_path / "run", "--option", "frozen", "--record", "gradients", "--record-every", "1")
    assert main([str(frozen.folder), str(recorded[0].folder), "--out", str(tmp_path / "out")]) == 0
    rows = list(csv.DictReader((tmp_path / "out" / "gradients.tsv").open(), delimiter="\t"))
    assert {row["line"] for row in rows} == {*(f"layer {layer}" for layer in range(4)), "pooler", "classifier"}


def make_copy(run):
    """Another object for the same run."""
    return type(run)(run.folder)


@pytest.mark.parametrize(
    "flags, message",
    [
        ([], "the run needs --record gradients"),
        (["--weights", "bias"], "--weights bias: choose from attention.query"),
        (["--layers", "0"], "--layers"),
    ],
)
def test_bad_input_is_one_line(runs, tmp_path, capsys, flags, message):
    assert main([str(runs[0].folder), *flags, "--out", str(tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_a_method_that_trains_no_such_weight_is_refused(tmp_path, capsys):
    run = make_run(tmp_path / "run", "--record", "gradients", "--record-every", "1", "--save", "none")
    (run.folder / "gradients.jsonl").write_text('{"step": 1, "gradients": {"all": {"bert.x": 1.0}}}\n')
    assert main([str(run.folder), "--out", str(tmp_path / "out")]) == 2
    assert "no gradient of these weights is recorded" in capsys.readouterr().err

"""minbert/report/curves.py: what the log and the scores say, and nothing where they are damaged."""

import json

import pytest

from minbert.report.curves import Quantity, in_order, run_curves
from minbert.report.reported_run import ReportedRun


def test_the_curves_of_a_run_are_its_log_and_its_scores(rte, read_json):
    run = ReportedRun(rte)
    curves = run_curves(run.log, run.history, run.curve_tasks)
    rows = [json.loads(line) for line in (rte / "log.jsonl").read_text().splitlines()]
    assert len(rows) == 4
    for kind in ("loss", "lr", "gradient_norm"):
        assert curves[Quantity(kind)] == {row["step"]: row[kind] for row in rows}
    for term in ("smart.proximal", "smart.smoothness"):
        assert curves[Quantity("penalty", term)] == {row["step"]: row["penalty"][term] for row in rows}
    for split in ("dev", "train"):
        scores = {entry["epoch"]: entry[split]["score"] for entry in read_json(rte / "metrics.json")["history"]}
        assert curves[Quantity(f"{split}_score")] == scores and list(scores) == [1, 2]
    assert len(curves) == 7


def test_each_task_of_several_has_curves_of_its_own(multi, read_json):
    run = ReportedRun(multi)
    curves = run_curves(run.log, run.history, run.curve_tasks)
    (entry,) = read_json(multi / "metrics.json")["history"]
    for task in ("sst5", "quora", "sts"):
        assert curves[Quantity("dev_score", task)] == {1: entry["dev"]["tasks"][task]["score"]}
        losses = {row["step"]: row["losses"][task] for row in run.log if task in row["losses"]}
        assert curves[Quantity("loss", task)] == losses
    assert {quantity.title for quantity in curves} >= {"training loss", "training loss of sts", "dev score of sst5"}


def test_panels_of_one_task_stand_together():
    quantities = [Quantity("lr"), Quantity("loss", "b"), Quantity("dev_score", "a"), Quantity("penalty", "z"),
                  Quantity("loss", "a"), Quantity("loss"), Quantity("penalty", "y")]  # fmt: skip
    order = [("loss", ""), ("penalty", "y"), ("penalty", "z"), ("lr", ""), ("loss", "a"), ("dev_score", "a"),
             ("loss", "b")]  # fmt: skip
    assert in_order(quantities) == order


@pytest.mark.parametrize("value", [None, True, float("nan"), float("inf"), "7", [1], {"b": []}])
def test_what_is_no_number_gives_no_point(value):
    """A log that was damaged, or that another program wrote."""
    whole = {"step": 1, "loss": 2.0, "losses": {"a": 3.0}, "penalty": {"x": 4.0}, "lr": 5.0}
    scores = {"epoch": 1, "dev": {"score": 6.0, "tasks": {"a": {"score": 7.0}}}}
    expected = run_curves([whole], [scores], ["a"])
    assert {curve[1] for curve in expected.values()} == {2.0, 3.0, 4.0, 5.0, 6.0, 7.0}
    spoiled = [whole | {name: value} | ({"step": 2} if name != "step" else {}) for name in whole]
    curves = run_curves(
        [whole, *spoiled, {"step": 2}], [scores, value, {"epoch": value}, {"epoch": 2, "dev": value}], ["a"]
    )
    numbers = [number for curve in curves.values() for number in curve.values()]
    assert {curve[1] for curve in curves.values()} >= {2.0, 3.0, 4.0, 5.0, 6.0, 7.0}
    assert all(type(number) in (int, float) and abs(number) < 99 for number in numbers)

"""minbert/report/curves.py: what the log and the scores say, and nothing where they are damaged."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st

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


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers(0, 3) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from("step loss losses penalty epoch dev score tasks a lr".split()), inner),
)


@settings(max_examples=30)
@given(st.lists(st.dictionaries(st.sampled_from("step loss losses penalty lr".split()), JSON)), st.lists(JSON))
def test_damaged_rows_give_no_points(log, history):
    for curve in run_curves(log, history, ["a"]).values():
        assert all(abs(value) < float("inf") for value in curve.values()) and curve

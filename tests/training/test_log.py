"""What a run tells of its losses, task by task."""

import json

import pytest
import torch
from support.factories import CPU, Log, make_dataset

from minbert.data.tasks import TASKS
from minbert.training.log import StepRecord, TrainingLog

RTE, STSB = (make_dataset(TASKS[name], 8) for name in ("rte", "stsb"))
FIRST = [(1, RTE, 0.5, 0.0), (1, STSB, 8.0, 0.25), (1, RTE, 0.75, 0.5), (1, RTE, 1.0, 0.25)]
SECOND = [(2, STSB, 4.0, 0.5), (2, STSB, 6.0, 0.5), (2, RTE, 0.25, 0.0)]


def measure(meter: TrainingLog, steps) -> None:
    meter.restart_clock()
    for epoch, dataset, loss, penalty in steps:
        terms = {"task": torch.tensor(loss)} | ({"smooth": torch.tensor(penalty)} if penalty else {})
        meter.add(StepRecord(epoch, dataset, [0, 1], 9, 1e-3, torch.tensor(1.0), terms))
    meter.report()


def new_meter(log) -> TrainingLog:
    return TrainingLog(log, CPU, 9, ["rte", "stsb", "cola"])


def test_losses_are_told_of_each_task():
    log = Log()
    meter = new_meter(log)
    measure(meter, FIRST)
    measure(meter, SECOND)
    first, second = log.rows
    assert first["losses"] == {"rte": 0.75, "stsb": 8.0} and first["loss"] == 2.5625
    assert first["penalty"] == {"smooth": 0.25}  # a mean over all four steps
    assert second["losses"] == {"rte": 0.25, "stsb": 5.0} and second["epoch"] == 2


def test_totals_are_of_the_run_and_losses_of_its_last_epoch():
    meter = new_meter(Log())
    measure(meter, FIRST)
    assert meter.totals()["train_loss"] == 2.5625  # of four steps, not of two tasks
    measure(meter, SECOND)
    totals = meter.totals()
    assert totals["train_loss"] == pytest.approx(10.25 / 3) and totals["steps"] == 7
    assert totals["tasks"] == {
        "rte": {"steps": 4, "train_loss": 0.25},
        "stsb": {"steps": 3, "train_loss": 5.0},
        "cola": {"steps": 0, "train_loss": None},
    }


def test_a_state_goes_through_json(read_json, tmp_path):
    meter, other = new_meter(Log()), new_meter(Log())
    measure(meter, FIRST)
    (tmp_path / "state").write_text(json.dumps(meter.state()))
    other.restore(read_json(tmp_path / "state"))
    for one in (meter, other):
        measure(one, SECOND)
    assert meter.totals()["tasks"] == other.totals()["tasks"]
    assert meter.run.rows[-1]["losses"] == other.run.rows[-1]["losses"]

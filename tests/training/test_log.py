"""What a run logs of its losses, task by task."""

import json
import math
from dataclasses import asdict

import pytest
import torch
from support.factories import CPU, make_dataset

from minbert.data.tasks import TASKS
from minbert.errors import TrainingError
from minbert.training.log import LOG_EVERY, LogState, StepRecord, TrainingLog
from minbert.training.loop import discard
from minbert.training.runtime import Runtime

RTE, STSB = (make_dataset(TASKS[name], 8) for name in ("rte", "stsb"))
# (step, epoch, dataset, loss, penalty)
FIRST = [(1, 1, RTE, 0.5, 0.0), (2, 1, STSB, 8.0, 0.25), (3, 1, RTE, 0.75, 0.5), (4, 1, RTE, 1.0, 0.25)]
SECOND = [(5, 2, STSB, 4.0, 0.5), (6, 2, STSB, 6.0, 0.5), (7, 2, RTE, 0.25, 0.0)]


def make_log(write_row=discard, runtime: Runtime = CPU) -> TrainingLog:
    return TrainingLog(runtime, 40, ["rte", "stsb", "cola"], write_row)


def record(step: int, epoch: int, dataset, loss: float, penalty: float = 0.0, norm: float = 1.0) -> StepRecord:
    losses = {"task": torch.tensor(loss)} | ({"smooth": torch.tensor(penalty)} if penalty else {})
    return StepRecord(step, epoch, dataset, [0, 1], 9, 1e-3, torch.tensor(norm), losses)


def add_all(log: TrainingLog, steps: list[tuple]) -> None:
    """Add the records of an epoch, and write its row."""
    log.start_clock()
    for step in steps:
        log.add(record(*step))
    log.write(steps[-1][0])


def test_a_row_has_the_mean_loss_of_each_task_and_of_each_penalty():
    rows = []
    log = make_log(rows.append)
    add_all(log, FIRST)
    add_all(log, SECOND)
    first, second = rows
    assert first["losses"] == {"rte": 0.75, "stsb": 8.0} and first["loss"] == 2.5625
    assert first["penalty"] == {"smooth": 0.25}  # a mean over all four steps
    assert second["losses"] == {"rte": 0.25, "stsb": 5.0} and second["epoch"] == 2
    assert [(row["step"], row["steps"]) for row in rows] == [(4, 40), (7, 40)]


def test_a_row_is_written_every_ten_steps_and_only_if_steps_were_added():
    rows = []
    log = make_log(rows.append)
    log.start_clock()
    for step in range(1, 2 * LOG_EVERY + 1):
        log.add(record(step, 1, RTE, float(step)))
    log.write(2 * LOG_EVERY)  # the epoch ends where a row was just written
    assert [row["step"] for row in rows] == [10, 20] and [row["loss"] for row in rows] == [5.5, 15.5]


def test_totals_count_the_whole_run_and_losses_its_last_epoch():
    log = make_log()
    add_all(log, FIRST)
    assert log.totals()["train_loss"] == 2.5625  # of four steps, not of two tasks
    add_all(log, SECOND)
    totals = log.totals()
    assert totals["train_loss"] == pytest.approx(10.25 / 3) and totals["steps"] == 7
    assert totals["examples_per_second"] * totals["seconds"] == pytest.approx(14)
    assert totals["tokens_per_second"] * totals["seconds"] == pytest.approx(63)
    assert totals["tasks"] == {
        "rte": {"steps": 4, "train_loss": 0.25},
        "stsb": {"steps": 3, "train_loss": 5.0},
        "cola": {"steps": 0, "train_loss": None},
    }


def test_the_state_of_a_log_survives_json_in_the_middle_of_a_row():
    rows, other_rows = [], []
    log, other = make_log(rows.append), make_log(other_rows.append)
    log.start_clock()
    for step in FIRST:
        log.add(record(*step))
    log.fetch()  # no row yet
    assert rows == []
    other.state = LogState(**json.loads(json.dumps(asdict(log.state))))
    for one in (log, other):
        add_all(one, SECOND)
    assert log.totals()["tasks"] == other.totals()["tasks"]
    timeless = [{k: v for k, v in row.items() if k not in ("tokens_per_second", "seconds_left")} for row in rows]
    assert [{k: v for k, v in row.items() if k in timeless[0]} for row in other_rows] == timeless


@pytest.mark.parametrize(
    "loss, norm, quantity", [(math.nan, 1.0, "loss"), (math.inf, math.nan, "loss"), (1.0, math.inf, "gradient")]
)
def test_the_first_loss_or_gradient_that_is_not_finite_is_named_with_its_step_and_examples(loss, norm, quantity):
    log = make_log()
    log.start_clock()
    for step in (record(1, 1, RTE, 1.0), record(2, 1, STSB, loss, norm=norm), record(3, 1, RTE, math.nan)):
        log.add(step)
    with pytest.raises(TrainingError, match=rf"^step 2: the {quantity} is not finite; rows\.tsv lines 2, 3$"):
        log.fetch()


def test_in_fp16_only_ten_gradients_in_a_row_that_are_not_finite_end_the_run():
    log = make_log(runtime=Runtime(torch.device("cpu"), "fp16"))
    log.start_clock()
    norms = [math.inf] * 9 + [1.0] + [math.inf] * 9
    for step, norm in enumerate(norms, start=1):
        log.add(record(step, 1, RTE, 1.0, norm=norm))
    log.fetch()
    log.add(record(20, 1, RTE, 1.0, norm=1.0))
    for step in range(21, 30):
        log.add(record(step, 1, RTE, 1.0, norm=math.inf))
    with pytest.raises(TrainingError, match=r"^step 30: the gradient is not finite"):
        log.add(record(30, 1, RTE, 1.0, norm=math.inf))


def test_speed_and_time_left_do_not_count_the_time_between_the_epochs(monkeypatch):
    """The evaluation takes 98 seconds here. Each step has 9 tokens."""
    now, rows = [0.0], []
    monkeypatch.setattr("minbert.training.log.time.perf_counter", lambda: now[0])
    log = make_log(rows.append)
    for start, end, steps in ((0.0, 2.0, FIRST), (100.0, 103.0, SECOND)):
        now[0] = start
        log.start_clock()
        for step in steps:
            log.add(record(*step))
        now[0] = end
        log.write(steps[-1][0])
    assert [row["tokens_per_second"] for row in rows] == [4 * 9 / 2, 3 * 9 / 3]
    assert [row["seconds_left"] for row in rows] == [2 / 4 * 36, pytest.approx(5 / 7 * 33)]
    assert log.totals()["seconds"] == 5.0

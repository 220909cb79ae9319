"""What a study shows on a terminal and elsewhere."""

import json
import os

import pytest

from minbert.errors import InputError
from study import live
from study.folder import StudyFolder
from study.live import ProgressDisplay
from study.plan import load_study
from study.study_file import Overrides

STUDY = """
seeds = 3
[methods.plain]
[methods.a-method-with-a-long-name]
option = "l2sp"
"""


@pytest.fixture
def runs(tmp_path):
    (tmp_path / "some.toml").write_text(STUDY)
    return load_study(tmp_path / "some.toml", Overrides()).runs


@pytest.fixture
def folder(tmp_path):
    folder = StudyFolder(tmp_path / "out")
    folder.create()
    return folder


def finish(folder, run, score: float | None, wall: float, failed: bool = False) -> None:
    """Write the files of a finished run that took so many seconds."""
    path = folder.run_folder(run)
    path.mkdir(parents=True)
    result = {"score": score, "failed": failed, "failure": "no better than chance" if failed else "", "seconds": 2.0}
    result |= {"kept_epoch": 1, "majority": 0.5, "train_loss": 0.1, "metrics": {}, "history": []}
    for name, text, time in (("settings.json", "{}", 1000.0), ("metrics.json", json.dumps(result), 1000.0 + wall)):
        (path / name).write_text(text)
        os.utime(path / name, (time, time))


def make_display(runs, folder, jobs):
    return ProgressDisplay(runs, folder, jobs, output_closed=pytest.fail)


def test_the_time_left_is_that_of_the_same_cell_or_else_of_all(folder, runs):
    """Six runs: 3 seeds of 2 methods, and the finished ones took 10 s (plain) and 40 s."""
    display = make_display(runs, folder, jobs=1)
    assert display.seconds_left() is None and display.time_left() == "time left unknown"
    finish(folder, runs[0], 0.7, wall=10)
    assert make_display(runs, folder, jobs=1).seconds_left() == pytest.approx(5 * 10)
    finish(folder, runs[1], 0.7, wall=40)
    assert make_display(runs, folder, jobs=2).seconds_left() == pytest.approx((2 * 10 + 2 * 40) / 2)
    assert make_display(runs, folder, jobs=8).seconds_left() == pytest.approx(40)
    assert make_display(runs[:2], folder, jobs=2).time_left() == "00:00 left"


def test_a_run_that_ended_with_an_error_is_not_waited_for(folder, runs, capsys):
    display = make_display(runs[:3], folder, jobs=1)
    finish(folder, runs[0], 0.7, wall=10)
    folder.note_error(runs[1], "a bug")
    for run in runs[:2]:
        display.run_ended(run)
    assert display.seconds_left() == pytest.approx(10)


def test_a_closed_terminal_is_told_and_raises_nothing(folder, runs, monkeypatch):
    """An error here would kill the runs that train."""
    told = []
    display = ProgressDisplay(runs, folder, jobs=1, output_closed=lambda: told.append(True))
    display.is_terminal, display.drawn = True, 3
    with open(os.devnull) as closed:  # it cannot be written to
        monkeypatch.setattr(live.sys, "stdout", closed)
        display.refresh([runs[0]])
    assert told and not display.is_terminal


def test_elsewhere_each_run_has_a_line(folder, runs, capsys):
    display = make_display(runs, folder, jobs=1)
    finish(folder, runs[0], 0.7125, wall=10)
    display.run_ended(runs[0])
    finish(folder, runs[2], None, wall=10, failed=True)
    display.run_ended(runs[2])
    folder.note_error(runs[4], "a bug")
    display.run_ended(runs[4])
    display.refresh([runs[1]])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "1/6 rte-plain-seed0: score 0.7125 (2 s); 00:50 left"
    assert lines[1].startswith("2/6 rte-plain-seed1: FAILED: no better than chance; ")
    assert lines[2].startswith("2/6 rte-plain-seed2: ERROR: a bug; ") and len(lines) == 3


class Screen:
    """A terminal that knows line feeds, and the codes that move the cursor up a line and clear it."""

    def __init__(self):
        self.lines = [""]

    def show(self, text: str) -> None:
        while text:
            if text.startswith("\x1b[1A\x1b[2K"):
                assert self.lines.pop() == ""
                self.lines[-1], text = "", text.removeprefix("\x1b[1A\x1b[2K")
            elif text.startswith("\n"):
                self.lines.append("")
                text = text[1:]
            else:
                self.lines[-1] += text[0]
                text = text[1:]


@pytest.mark.parametrize("width, height", [(80, 24), (20, 24), (80, 4), (30, 3)])
def test_the_table_on_a_terminal_replaces_itself(folder, runs, capsys, monkeypatch, width, height):
    monkeypatch.setattr(live.shutil, "get_terminal_size", lambda: os.terminal_size((width, height)))
    display, screen = make_display(runs, folder, jobs=1), Screen()
    display.is_terminal = True
    finish(folder, runs[0], 0.7125, wall=10)
    display.run_ended(runs[0])
    display.refresh([runs[1]])
    finish(folder, runs[2], 0.5, wall=10, failed=True)
    display.run_ended(runs[2])
    folder.note_error(runs[1], "a bug")
    display.run_ended(runs[1])
    display.refresh([runs[3]])
    screen.show(capsys.readouterr().out)
    error, *table = screen.lines
    assert error.startswith("2/6 rte-a-method-with-a-long-name-seed0: ERROR: a bug")
    assert all(len(line) < width for line in table) and len(table) <= height
    if (width, height) == (80, 24):
        assert table[0].split() == "rte plain 2/3 mean 60.62 1 failed".split()
        assert table[1].split() == "rte a-method-with-a-long-name 0/3 mean – 1 with an error".split()
        assert table[2:] == ["> rte-a-method-with-a-long-name-seed1: starts", "00:30 left", ""]


def test_the_line_of_a_run_has_its_last_step(folder, runs):
    display = make_display(runs, folder, jobs=1)
    path = folder.run_folder(runs[0])
    path.mkdir(parents=True)
    row = {"step": 10, "steps": 78, "loss": 0.51234}
    (path / "log.jsonl").write_text(json.dumps(row) + "\n" + json.dumps(row | {"step": 20}) + '\n{"step": 3')
    assert display.progress(runs[0]) == "> rte-plain-seed0: step 20/78"


def test_damaged_metrics_are_one_line(folder, runs):
    finish(folder, runs[0], 0.7, wall=10)
    (folder.run_folder(runs[0]) / "metrics.json").write_text("{}")
    with pytest.raises(
        InputError, match=r"metrics\.json is not that of .*: delete .*, and the study trains the run again"
    ):
        make_display(runs, folder, jobs=1)

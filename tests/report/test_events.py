"""--tensorboard: each point of the curves once, through a stand-in for torch.utils.tensorboard."""

import json
import sys
from types import ModuleType

import pytest
from support.report_pages import report

from minbert.report import __main__ as command


class Writer:
    """Records the calls of a SummaryWriter."""

    all: list["Writer"] = []

    def __init__(self, folder: str):
        self.folder, self.points, self.flushes, self.closed = folder, [], 0, False
        Writer.all.append(self)

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        assert not self.closed
        self.points.append((tag, value, step))

    def flush(self) -> None:
        self.flushes += 1

    def close(self) -> None:
        self.closed = True


@pytest.fixture(autouse=True)
def stand_in(monkeypatch):
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(Writer, "all", [])


def expected_points(folder) -> set[tuple[str, float, int]]:
    """From the files of a run of one task."""
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    points = {(name, row[name], row["step"]) for row in rows for name in ("loss", "lr", "gradient_norm")}
    points |= {(f"penalty/{name}", value, row["step"]) for row in rows for name, value in row["penalty"].items()}
    for entry in json.loads((folder / "metrics.json").read_text())["history"]:
        points |= {(f"{split}_score", entry[split]["score"], entry["epoch"]) for split in ("dev", "train")}
    return points


def test_the_events_are_the_points_of_the_log_and_the_scores(rte, multi, tmp_path, capsys):
    assert report(rte, multi, "--tensorboard", tmp_path / "tb") == 0
    first, second = Writer.all
    assert (first.folder, second.folder) == (str(tmp_path / "tb" / "rte-smart-seed0"), str(tmp_path / "tb" / "multi"))
    assert set(first.points) == expected_points(rte) and len(first.points) == len(expected_points(rte)) == 24
    assert {tag for tag, _, _ in second.points} >= {"loss", "loss/sst5", "dev_score", "dev_score/quora", "lr"}
    assert first.closed and second.closed
    assert capsys.readouterr().out == f"{len(first.points) + len(second.points)} points: {tmp_path / 'tb'}\n"
    assert not (rte / "report").exists()


def test_each_point_is_written_once_while_the_run_goes_on(rte, copy, tmp_path, monkeypatch):
    """Also of a run that is stopped and resumed, and so does some steps again."""
    folder = copy(rte)
    lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
    metrics = (folder / "metrics.json").read_text()
    (folder / "metrics.json").unlink()
    (folder / "log.jsonl").write_text("".join(lines[:2]))
    states = iter([lines, lines[:1], lines[:3], lines])
    seen = []

    def sleep(seconds: float) -> None:
        seen.append((len(Writer.all[0].points), Writer.all[0].flushes))
        state = next(states, None)
        if state is None:
            (folder / "metrics.json").write_text(metrics)
        else:
            (folder / "log.jsonl").write_text("".join(state))

    monkeypatch.setattr(command.watch, "__defaults__", (sleep,))
    assert report(folder, "--follow", "--tensorboard", tmp_path / "tb") == 0
    (writer,) = Writer.all
    assert len(writer.points) == len(set(writer.points)) and set(writer.points) == expected_points(folder)
    assert seen[:2] == [(10, 1), (20, 2)] and writer.closed


def test_ctrl_c_closes_the_files(rte, copy, tmp_path, monkeypatch):
    folder = copy(rte)
    (folder / "metrics.json").unlink()

    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.watch, "__defaults__", (sleep,))
    assert report(folder, "--follow", "--tensorboard", tmp_path / "tb") == 130
    assert Writer.all[0].closed and len(Writer.all[0].points) == 20


def test_a_folder_that_has_events_is_not_written_twice(rte, tmp_path, capsys):
    (tmp_path / "rte-smart-seed0").mkdir()
    assert report(rte, "--tensorboard", tmp_path) == 2
    assert "exists, delete it or name another folder" in capsys.readouterr().err and Writer.all == []


def test_without_tensorboard_one_line_says_what_to_install(rte, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # an import of it raises ImportError
    assert report(rte, "--tensorboard", tmp_path / "tb") == 2
    assert capsys.readouterr().err == "minbert.report: tensorboard missing: pip install tensorboard\n"
    assert not (tmp_path / "tb").exists()


def test_events_need_no_matplotlib(rte, tmp_path, monkeypatch):
    monkeypatch.setattr("minbert.report.requirements.find_spec", lambda name: None)
    assert report(rte, "--tensorboard", tmp_path / "tb") == 0

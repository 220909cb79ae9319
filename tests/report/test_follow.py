"""--follow: the report is written again while a run goes on. The clock stands still in these tests."""

import json
from types import SimpleNamespace

import pytest
from support.report_pages import read_tsv, report

from minbert.report import __main__ as command
from minbert.report.reported_run import read_runs

pytestmark = pytest.mark.usefixtures("quick_pictures")


@pytest.fixture
def growing(rte, copy):
    """A copy of a finished run, and the steps in which it comes into being."""
    folder = copy(rte)
    lines = (folder / "log.jsonl").read_text().splitlines(keepends=True)
    (folder / "log.jsonl").unlink()
    metrics = (folder / "metrics.json").read_text()
    (folder / "metrics.json").unlink()

    def append(line: str) -> None:
        with (folder / "log.jsonl").open("a") as file:
            file.write(line)

    steps = [
        lambda: append(lines[0]),
        lambda: None,
        lambda: append(lines[1] + lines[2][:9]),
        lambda: append(lines[2][9:] + lines[3]),
        lambda: (folder / "metrics.json").write_text(metrics),
    ]
    return SimpleNamespace(folder=folder, steps=steps)


def watch(growing, monkeypatch, write):
    """The seconds that the command sleeps, with a step of the run in each pause."""
    steps, slept = iter(growing.steps), []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        next(steps)()

    monkeypatch.setattr(command.time, "sleep", sleep)
    runs = read_runs([growing.folder])
    (run,) = runs.values()
    command.watch(runs, SimpleNamespace(follow=True, every=3.0), lambda reload: write(run, reload), sleep)
    return slept


def test_the_report_is_written_when_the_log_has_grown(growing, monkeypatch):
    written = []
    slept = watch(growing, monkeypatch, lambda run, reload: written.append((len(run.log), run.is_finished, reload)))
    assert slept == [3.0] * 5
    # Nothing new after the second step: nothing is written. Half a line is no row.
    assert written == [(0, False, 3.0), (1, False, 3.0), (2, False, 3.0), (4, False, 3.0),
                       (4, True, None)]  # fmt: skip


def test_the_page_reloads_itself_until_the_run_is_finished(growing, monkeypatch, capsys):
    page, steps, seen = growing.folder / "report" / "report.html", iter(growing.steps), []

    def sleep(seconds: float) -> None:
        seen.append((seconds, 'http-equiv="refresh" content="2"' in page.read_text(), "confusion" in page.read_text()))
        next(steps)()

    monkeypatch.setattr(command.watch, "__defaults__", (sleep,))
    assert report(growing.folder, "--follow", "--every", 2) == 0
    assert seen == [(2.0, True, False)] * 5
    assert "refresh" not in page.read_text() and "confusion" in page.read_text()
    assert len(read_tsv(growing.folder / "report" / "curves.tsv")) > 20
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first == f"follows the run in {page}; Ctrl-C ends this program" and last == str(page)


def test_a_finished_run_is_written_once_even_with_follow(rte, tmp_path, monkeypatch):
    monkeypatch.setattr(command.watch, "__defaults__", (None,))  # a call of it would fail
    assert report(rte, "--follow", "--out", tmp_path) == 0
    assert "refresh" not in (tmp_path / "report.html").read_text()


def test_the_predictions_of_a_finished_run_are_computed_once(rte, growing, tmp_path, monkeypatch):
    from minbert.report import run_section

    computed, steps, read_answers = [], iter(growing.steps), run_section.read_answers
    monkeypatch.setattr(
        run_section, "read_answers", lambda run, device: computed.append(run.name) or read_answers(run, device)
    )
    monkeypatch.setattr(command.watch, "__defaults__", (lambda seconds: next(steps)(),))
    assert report(rte, growing.folder, "--follow", "--out", tmp_path) == 0
    assert computed == ["rte-smart-seed0", "copy"]


def test_ctrl_c_ends_it_with_status_130(growing, monkeypatch, capsys):
    def sleep(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command.watch, "__defaults__", (sleep,))
    assert report(growing.folder, "--follow") == 130
    assert capsys.readouterr().err == "minbert.report: interrupted\n"
    assert (growing.folder / "report" / "report.html").exists()


@pytest.mark.parametrize("spoil, problem", [
    (lambda folder: (folder / "settings.json").unlink(), "is not a run folder"),
    (lambda folder: (folder / "metrics.json").write_text(json.dumps({"score": 1})), "is not that of a finished run"),
])  # fmt: skip
def test_a_run_that_is_removed_meanwhile_is_one_line(growing, monkeypatch, capsys, spoil, problem):
    monkeypatch.setattr(command.watch, "__defaults__", (lambda seconds: spoil(growing.folder),))
    assert report(growing.folder, "--follow") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert problem in line

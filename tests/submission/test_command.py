"""python -m minbert.submission: its exit statuses and what it prints."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.prediction_files import GOOD, write_leaderboard

from minbert.submission.__main__ import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path) -> Path:
    """Predictions for the RTE rows of `data`."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "RTE.tsv").write_text(GOOD["RTE.tsv"])
    return folder


def test_check_exits_with_0_if_a_grader_would_accept_the_files(folder, data):
    command = [sys.executable, "-m", "minbert.submission", "check", folder, "--data", data]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert run.returncode == 0 and run.stdout.endswith("1 file: a grader would accept this\n"), run.stderr
    assert f"note: {folder} lacks CoLA.tsv, SST-2.tsv" in run.stdout


def test_check_exits_with_1_if_a_grader_would_reject_the_files(folder, data, capsys):
    assert main(["check", str(folder), "--data", str(data), "--complete"]) == 1
    assert main(["check", str(folder)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 file: a grader would reject this"


def test_zip_prints_the_filled_files_and_the_zip(folder, data, tmp_path, capsys):
    out = tmp_path / "a.zip"
    assert main(["zip", str(folder), "--data", str(data), "--out", str(out)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 11 and lines[0].startswith("CoLA.tsv is not in") and lines[-1] == str(out)
    assert out.exists()


def test_zip_writes_submission_zip_by_default(folder, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["zip", str(folder), "--data", str(data)]) == 0
    assert (tmp_path / "submission.zip").exists()


@pytest.fixture
def run(tmp_path, data) -> Path:
    """A run folder on `data`, with predictions for its rows."""
    (tmp_path / "run" / "predictions" / "test").mkdir(parents=True)
    (tmp_path / "run" / "predictions" / "test" / "RTE.tsv").write_text(GOOD["RTE.tsv"])
    (tmp_path / "run" / "settings.json").write_text(json.dumps({"data": str(data)}))
    return tmp_path / "run"


def test_the_predictions_of_a_run_are_compared_with_the_data_of_the_run(run, data, capsys):
    assert main(["check", str(run)]) == 0
    assert f"note: compared with the data of the run, {data}\n" in capsys.readouterr().out
    (run / "settings.json").write_text(json.dumps({"data": str(data / "moved away")}))
    assert main(["check", str(run)]) == 1  # the published file has 3000 rows
    assert "lacks 2997 of 3000 examples" in capsys.readouterr().out


def test_the_zip_of_a_run_goes_into_its_folder(run, tmp_path, monkeypatch, capsys):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert main(["zip", str(run)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(run / "submission.zip")
    assert (run / "submission.zip").exists() and list((tmp_path / "elsewhere").iterdir()) == []
    with zipfile.ZipFile(run / "submission.zip") as archive:
        assert archive.read("STS-B.tsv").count(b"\n") == 4  # filled for the three rows of the run's data


def test_zip_refuses_what_check_refuses(folder, data, tmp_path, capsys):
    with (folder / "RTE.tsv").open("a") as file:
        file.write("3\tentailment\n")
    assert main(["zip", str(folder), "--data", str(data), "--out", str(tmp_path / "a.zip")]) == 1
    assert "RTE.tsv:5: example '3' is not in test" in capsys.readouterr().out
    assert not list(tmp_path.glob("*a.zip*"))


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "arguments are required"),
        (["pack", "x"], "invalid choice: 'pack'"),
        (["check"], "required: DIR"),
        (["check", "nowhere"], "nowhere is not a folder"),
        (["check", ".", "--data", "nowhere"], "nowhere is not a folder"),
        (["check", ".", "--out", "x"], "--out has no effect with check"),
        (["zip", ".", "--complete"], "--complete has no effect with zip"),
        (["check", ".", "--complet"], "unrecognized arguments: --complet; did you mean --complete?"),
        (["zip", "nowhere"], "nowhere is not a folder"),
        (["zip", ".", "--out", "."], ". exists: delete it"),
    ],
)
def test_bad_usage_gets_one_line_and_exit_status_2(folder, monkeypatch, capsys, argv, message):
    write_leaderboard(folder, "RTE")
    monkeypatch.chdir(folder)
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("minbert.submission: ") and error.count("\n") == 1

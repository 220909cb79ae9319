"""A whole study on tiny files, in its own processes: its runs, what it survives, and what it refuses."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

import multitask
import train
from minbert.errors import InputError
from study.__main__ import main
from study.collect import load_rows
from study.folder import StudyFolder
from study.plan import load_study
from study.study_file import Overrides
from study.worker import job_line
from tests.support.studies import ENVIRONMENT, FLAGS, results, start, write_study

MIXED = """
epochs = 2
[methods.plain]
[methods.smart]
option = "smart"
[methods.too-few.rte]
option = "mine"
train-size = 5
"""


@pytest.fixture(scope="module")
def mixed(tmp_path_factory, model_folder, data) -> tuple[Path, int, str]:
    """Folder, exit status and output of a study of two tasks, two methods, and one with a mistake in its settings."""
    folder = tmp_path_factory.mktemp("mixed")
    file = write_study(folder / "mixed.toml", model_folder, data, MIXED)
    done = start(file, folder / "out", "--tasks", "rte", "sst5+sts", "--seeds", "2", "--jobs", "2")
    output, _ = done.communicate()
    return folder / "out", done.returncode, output


@pytest.mark.parametrize("task, program", [("rte", train.main), ("sst5+sts", multitask.main)])
@pytest.mark.parametrize("method", ["plain", "smart"])
def test_a_run_of_a_study_equals_the_run_alone(mixed, model_folder, data, tmp_path, read_json, task, program, method):
    """Bit for bit, though its process had trained other runs before."""
    flags = [text for key, value in FLAGS.items() for text in (f"--{key}", str(value))]
    flags += ["--tasks", *task.split("+")] if "+" in task else ["--task", task]
    flags += ["--option", "smart"] if method == "smart" else []
    flags += ["--epochs", "2", "--model", str(model_folder), "--data", str(data), "--seed", "1", "--save", "none"]
    assert program([*flags, "--out", str(tmp_path / "alone")]) == 0
    inside = mixed[0] / "runs" / f"{task}-{method}-seed1"
    alone, of_study = (read_json(folder / "metrics.json") for folder in (tmp_path / "alone", inside))
    for values in (alone, of_study):
        for name in ("seconds", "examples_per_second", "tokens_per_second", "peak_memory_bytes"):
            del values[name]
    assert of_study == alone
    files = sorted(path.relative_to(inside) for path in (inside / "predictions").rglob("*") if path.is_file())
    assert files and all((inside / path).read_bytes() == (tmp_path / "alone" / path).read_bytes() for path in files)


def test_a_run_with_a_mistake_does_not_stop_the_others(mixed):
    out, status, output = mixed
    assert status == 1, output
    assert "10 of 12 runs finished" in output.splitlines()[-1] and "2 with an error" in output.splitlines()[-1]
    assert "rte-too-few-seed0: ERROR: " in output and "needs 128 inputs" in output
    assert len(results(out)) == 10
    assert "rte-too-few-seed0" in (out / "report.md").read_text(encoding="utf-8")
    assert (out / "output" / "rte-too-few-seed0.error").exists()


def test_what_a_run_prints_goes_to_its_file(mixed):
    out, _, output = mixed
    assert "plain on rte" not in output and "step" not in output
    text = (out / "output" / "rte-plain-seed0.txt").read_text(encoding="utf-8")
    assert "finetune on rte" in text and text.splitlines()[-1].startswith("rte dev score")


def test_each_task_of_several_has_a_table(mixed, read_json):
    cells = read_json(mixed[0] / "summary.json")["cells"]
    assert [(cell["task"], cell["n"]) for cell in cells if cell["method"] == "smart"] == [
        ("rte", 2), ("sst5+sts", 2), ("sst5", 2), ("sts", 2),
    ]  # fmt: skip


def test_finished_runs_are_not_trained_again(mixed, monkeypatch, capsys):
    out, _, _ = mixed
    monkeypatch.setattr("study.report.write_report", lambda *_: None)
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}
    flags = ["--tasks", "rte", "sst5+sts", "--seeds", "2", "--methods", "plain", "smart", "--out", str(out)]
    assert main([str(out.parent / "mixed.toml"), *flags]) == 0
    assert before == {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*")}
    assert capsys.readouterr().out.startswith("8 of 8 runs finished")


def test_the_list_names_states_and_trains_nothing(mixed, capsys):
    out, _, _ = mixed
    assert main([str(out.parent / "mixed.toml"), "--tasks", "rte", "--seeds", "3", "--out", str(out), "--list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "finished  rte-smart-seed1" in lines and "waiting   rte-plain-seed2" in lines
    assert any(line.startswith("error     rte-too-few-seed0: ") for line in lines)
    assert lines[-1].startswith("4 finished, 2 error, 3 waiting; 00:") and lines[-1].endswith(" left")


def test_a_changed_setting_is_refused(mixed, capsys):
    out, _, _ = mixed
    assert main([str(out.parent / "mixed.toml"), "--seeds", "2", "--out", str(out), "--set", "epochs=1"]) == 2
    assert "settings.json has --epochs 2, the study asks for 1: delete that run's folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change, message", [("precision=bf16", "--precision fp32"), ("batch-size=8", "--batch-size 16")]
)
def test_numbers_of_other_settings_are_not_mixed(mixed, capsys, change, message):
    out, _, _ = mixed
    assert main([str(out.parent / "mixed.toml"), "--seeds", "2", "--out", str(out), "--set", change, "--list"]) == 2
    assert f"settings.json has {message}, the study asks for " in capsys.readouterr().err


def test_a_report_trains_nothing(mixed, monkeypatch, capsys):
    out, _, _ = mixed
    calls = []
    monkeypatch.setattr("study.report.write_report", lambda path, info, cells: calls.append((path, len(cells))))
    assert main([str(out.parent / "mixed.toml"), "--tasks", "rte", "--seeds", "3", "--out", str(out), "--report"]) == 1
    assert calls == [(out, 3)]
    assert capsys.readouterr().out.startswith("4 of 9 runs finished, ")


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--shard", "3/2"], "--shard"),
        (["--shard", "x"], "--shard"),
        (["--jobs", "0"], "--jobs"),
        (["--data", "nowhere"], "nowhere/RTE/train.tsv does not exist"),
        (["--set", "device=cuda"], "--device cuda"),
        (["--set", "max-length=512"], "--max-length 512: the model has "),
        (["--job", "2"], "did you mean --jobs?"),
    ],
)
def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path, model_folder, data, capsys, flags, message, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    file = write_study(tmp_path / "few.toml", model_folder, data, "[methods.plain]\n")
    assert main([str(file), "--out", str(tmp_path / "out"), *flags]) == 2
    error = capsys.readouterr().err
    assert error.startswith("study: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_missing_libraries_are_named(tmp_path, model_folder, data, capsys, monkeypatch):
    monkeypatch.setattr("minbert.report.requirements.find_spec", lambda name: None if name == "scipy" else object())
    file = write_study(tmp_path / "few.toml", model_folder, data, "[methods.plain]\n")
    assert main([str(file), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err == "study: scipy missing: pip install -r requirements-study.txt\n"


@pytest.mark.parametrize("delay", [0.0, 1.0, 2.0, 3.0])
def test_a_worker_that_starts_a_run_stops_when_its_input_ends(tmp_path, model_folder, data, delay):
    """Before the run listens to signals, while it reads files, and while it trains."""
    file = write_study(tmp_path / "one.toml", model_folder, data, "epochs = 400\n[methods.plain]\n")
    (run,) = load_study(file, Overrides(seeds=(1,))).runs
    folder = StudyFolder(tmp_path / "out")
    folder.create()
    worker = subprocess.Popen(
        [sys.executable, "-m", "study.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    )
    worker.stdin.write(job_line(run.name, folder.prepare(run), str(folder.output_file(run))) + "\n")
    worker.stdin.flush()
    time.sleep(delay)
    answer, _ = worker.communicate()
    assert (worker.returncode, json.loads(answer)["end"]) == (0, "stopped")


@pytest.mark.parametrize("text", ["{}", '{"history": [{"epoch": 1}], "kept_epoch": 1}', "[]", "{"])
def test_a_damaged_result_is_named(tmp_path, model_folder, data, capsys, text):
    file = write_study(tmp_path / "one.toml", model_folder, data, "[methods.plain]\n")
    study = load_study(file, Overrides(seeds=(1,)))
    folder = StudyFolder(tmp_path / "out")
    path = folder.run_folder(study.runs[0])
    path.mkdir(parents=True)
    (path / "metrics.json").write_text(text)
    with pytest.raises(InputError, match=r"metrics\.json"):
        load_rows(study, folder)
    assert main([str(file), "--seeds", "1", "--out", str(tmp_path / "out"), "--list"]) == 2
    assert "settings.json is missing, but the run is finished" in capsys.readouterr().err

"""A whole study on tiny files, in its own processes: its runs, what it survives, and what it refuses."""

import csv
import json
import os
import shutil
import signal
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
from study.pool import describe_end
from study.study_file import Overrides
from study.worker import job_line

ROOT = Path(__file__).resolve().parents[2]
# One thread a worker: the runs are too small to share out, and equal bits need an equal number of threads.
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
FLAGS = {"device": "cpu", "precision": "fp32", "batch-size": 16, "max-length": 32, "lr": 1e-2}


@pytest.fixture(scope="module")
def data(tmp_path_factory, data_folder, course) -> Path:
    """The files of RTE and of the course's tasks in one folder."""
    folder = tmp_path_factory.mktemp("all-data")
    for source in (data_folder, course):
        shutil.copytree(source, folder, dirs_exist_ok=True)
    return folder


def write_study(path: Path, model: Path, data: Path, text: str) -> Path:
    """A study file of the tiny model. `text` starts with further settings, and goes on with tables."""
    settings = "\n".join(f"{key} = {json.dumps(value)}" for key, value in FLAGS.items())
    path.write_text(f"[settings]\nmodel = '{model}'\ndata = '{data}'\n{settings}\n{text}", encoding="utf-8")
    return path


def start(file: Path, out: Path, *flags: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "study", str(file), "--out", str(out), *flags]
    return subprocess.Popen(command, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def results(out: Path) -> list[dict]:
    """The rows of results.csv without the times."""
    with (out / "results.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if name not in ("seconds", "folder")} for row in rows]


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


LONG = """
epochs = 20
checkpoint-steps = 2
[methods.plain]
"""


def test_a_stopped_study_goes_on_to_the_same_numbers(tmp_path, model_folder, data):
    """SIGKILL leaves the workers behind: they finish their step and stop. SIGTERM is passed on to them."""
    file, out = write_study(tmp_path / "long.toml", model_folder, data, LONG), tmp_path / "stopped"
    flags = ["--seeds", "2", "--jobs", "2", "--set", "save=model"]
    for number in (signal.SIGKILL, signal.SIGTERM):
        logs = [out / "runs" / f"rte-plain-seed{seed}" / "log.jsonl" for seed in (0, 1)]
        before = [path.stat().st_mtime_ns if path.exists() else 0 for path in logs]
        stopped = start(file, out, *flags)
        wait_until(lambda: all(p.exists() and p.stat().st_mtime_ns > at for p, at in zip(logs, before)))  # noqa: B023
        stopped.send_signal(number)
        output, _ = stopped.communicate()
        assert stopped.returncode == (-number if number == signal.SIGKILL else 128 + number), output
        assert not list(out.glob("runs/*/metrics.json"))
    last = start(file, out, *flags)
    output, _ = last.communicate()
    assert last.returncode == 0 and sum("seed0: score" in line for line in output.splitlines()) == 1, output
    assert "going on after step" in (out / "output" / "rte-plain-seed0.txt").read_text()
    for seed, row in enumerate(results(out)):
        flags = [text for key, value in FLAGS.items() for text in (f"--{key}", str(value))]
        flags += ["--model", str(model_folder), "--data", str(data), "--epochs", "20", "--save", "none"]
        assert train.main([*flags, "--seed", str(seed), "--out", str(tmp_path / str(seed))]) == 0
        alone = json.loads((tmp_path / str(seed) / "metrics.json").read_text())
        assert (row["score"], row["train_loss"]) == (repr(alone["score"]), repr(alone["train_loss"]))


def test_a_killed_worker_is_an_error_of_its_run_alone(tmp_path, model_folder, data):
    file = write_study(tmp_path / "long.toml", model_folder, data, LONG)
    study = start(file, tmp_path / "out", "--seeds", "2")
    first = tmp_path / "out" / "runs" / "rte-plain-seed0"
    wait_until(lambda: (first / "log.jsonl").exists())
    children = Path(f"/proc/{study.pid}/task/{study.pid}/children")
    if not children.exists():
        study.kill()
        pytest.skip("the system does not name the children of a process")
    os.kill(int(children.read_text().split()[0]), signal.SIGKILL)
    output, _ = study.communicate()
    assert study.returncode == 1 and "rte-plain-seed0: ERROR: the process ended by SIGKILL" in output
    assert [row["seed"] for row in results(tmp_path / "out")] == ["1"]


@pytest.mark.parametrize(
    "status, words",
    [
        (0, "with exit status 0"),
        (3, "with exit status 3"),
        (-9, "by SIGKILL; was the memory full?"),
        (-11, "by SIGSEGV"),
    ],
)
def test_the_end_of_a_worker_is_described(status, words):
    assert describe_end(status) == words


def test_two_shards_share_a_folder(tmp_path, model_folder, data):
    file = write_study(
        tmp_path / "shards.toml", model_folder, data, "epochs = 2\n[methods.plain]\n[methods.smart]\noption = 'smart'\n"
    )
    shards = [start(file, tmp_path / "out", "--seeds", "3", "--shard", f"{part}/2") for part in (1, 2)]
    outputs = [shard.communicate()[0] for shard in shards]
    assert [shard.returncode for shard in shards] == [0, 0], outputs
    trained = [line.split()[1] for output in outputs for line in output.splitlines()[:-1]]
    assert len(trained) == len(set(trained)) == 6
    assert len(list((tmp_path / "out" / "runs").glob("*/metrics.json"))) == 6
    assert any("6 of 6 runs finished" in output for output in outputs)


def wait_until(happened, seconds: float = 300.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


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

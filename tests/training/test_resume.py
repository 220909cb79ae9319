"""train.py stopped and resumed as a user or a cluster would: signals, kill -9, a full disk."""

import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from support.factories import CONFIG, CPU
from support.run_folders import change, stop_in_evaluation

import sample
import train
from benchmarks.faults import kill_until_done, results
from minbert import tokenizer, weights
from minbert.errors import Interrupted
from minbert.files import temporary_path
from minbert.training import inputs, run_folder
from minbert.training.evaluation import Evaluator
from minbert.training.lock import FolderLock, is_locked
from minbert.training.settings import Settings

ROOT = Path(__file__).resolve().parents[2]
THREADS = {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # results are equal bit for bit only with as many threads
FLAGS = ("--option", "smart", "--device", "cpu", "--precision", "fp32", "--batch-size", "16", "--max-length", "32",
         "--lr", "1e-2", "--epochs", "12", "--checkpoint-steps", "1", "--predict", "test")  # fmt: skip


@pytest.fixture(scope="session")
def flags(model_folder, data_folder) -> tuple[str, ...]:
    return *FLAGS, "--model", str(model_folder), "--data", str(data_folder)


@pytest.fixture(scope="session")
def undisturbed(flags, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert train.main([*flags, "--out", str(folder)]) == 0
    return results(folder)


def test_a_run_killed_at_random_moments_ends_with_the_same_results(flags, undisturbed, tmp_path, monkeypatch):
    """The short form of benchmarks/faults.py."""
    monkeypatch.setenv("OMP_NUM_THREADS", THREADS["OMP_NUM_THREADS"])
    folder = tmp_path / "run"
    kill_until_done(flags, folder, random.Random(0), longest=6.0, kills=3)
    assert results(folder) == undisturbed


def launch(flags, folder, program=(train.__file__,), **more) -> subprocess.Popen:
    """Start the program in a process of its own, with as many threads as this one. (The tests may run under nohup.)"""
    command = [sys.executable, *program, *flags, "--out", str(folder)]
    more = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL)} | more
    more |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": ROOT}
    return subprocess.Popen(command, env=os.environ | THREADS, **more)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_stops_between_two_steps_and_says_how_to_go_on(flags, undisturbed, tmp_path, number, status):
    folder = tmp_path / "run"
    code = f"""
import os, sys, train
from minbert.training.run_folder import RunFolder
append_log = RunFolder.append_log
def append_log_and_signal(self, row):
    append_log(self, row)
    os.kill(os.getpid(), {int(number)})
RunFolder.append_log = append_log_and_signal
sys.argv[0] = "train.py"
sys.exit(train.main(sys.argv[1:]))
"""
    process = launch(flags, folder, program=("-c", code))
    out, errors = process.communicate(timeout=600)
    assert process.returncode == status and errors == f"train.py: stopped by {number.name}\n"
    assert out.splitlines()[-1] == f"stopped; to go on after step 8: python train.py --resume {folder}"
    assert {path.name for path in folder.iterdir()} >= {"settings.json", "log.jsonl", "checkpoint"}
    assert not (folder / "metrics.json").exists() and not (folder / "checkpoint" / ".new").exists()
    assert train.main(["--resume", str(folder)]) == 0
    assert results(folder) == undisturbed


def test_a_closed_output_stops_the_run_as_sigterm_does(flags, undisturbed, tmp_path):
    """As `train.py ... | head -1` does, whose pipe is closed after the first line."""
    folder = tmp_path / "run"
    process = launch(flags, folder)
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait(timeout=600) == 143
    assert process.stderr.read() == "train.py: stopped by SIGTERM\n"
    assert not (folder / "metrics.json").exists()
    assert train.main(["--resume", str(folder)]) == 0
    assert results(folder) == undisturbed


def test_nohup_still_protects_from_sighup(flags, undisturbed, tmp_path):
    folder = tmp_path / "run"
    process = launch(flags, folder, preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
    while not (folder / "settings.json").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    assert process.wait(timeout=600) == 0
    assert results(folder) == undisturbed


def test_a_full_disk_is_named_and_nothing_is_lost(flags, undisturbed, tmp_path):
    """The system itself refuses to let a file grow to the size of the first checkpoint."""
    folder = tmp_path / "run"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # noqa: E731
    process = launch(flags, folder, preexec_fn=limit)
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 2 and errors.count("\n") == 1
    assert f"the checkpoint of step 1 cannot be written to {folder / 'checkpoint'}: " in errors
    assert {path.name for path in folder.iterdir()} == {"settings.json", "checkpoint"}
    assert list((folder / "checkpoint").iterdir()) == []
    assert train.main(["--resume", str(folder)]) == 0
    assert results(folder) == undisturbed


def test_a_model_that_cannot_be_written_leaves_the_checkpoint(flags, undisturbed, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "run"

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run_folder, "save_model", full)
        assert train.main([*flags, "--out", str(folder)]) == 2
    assert f"{folder / 'model'} cannot be written: No space left on device" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"settings.json", "log.jsonl", "checkpoint"}
    assert train.main(["--resume", str(folder)]) == 0
    assert results(folder) == undisturbed


@pytest.mark.parametrize(
    "kept, names",
    [("all", {"model", "checkpoint", "predictions"}), ("model", {"model", "predictions"}), ("none", {"predictions"})],
)
def test_save_decides_which_parts_of_the_run_folder_are_kept(arguments, tmp_path, kept, names):
    assert train.main([*arguments, "--max-steps", "2", "--save", kept]) == 0
    always = {"settings.json", "log.jsonl", "metrics.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names | always


def test_with_save_none_a_stopped_run_keeps_no_checkpoint(arguments, tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(Evaluator, "scores", stop)
    assert train.main([*arguments, "--max-steps", "2", "--save", "none"]) == 143
    assert "with --save none there is no checkpoint" in capsys.readouterr().out
    assert not (tmp_path / "run" / "checkpoint").exists()


def test_a_resumed_run_repeats_no_line_of_the_log_and_drops_a_half_written_one(stopped):
    """The stopped run logged step 10, which its last checkpoint, of step 8, does not have; in the next line it died."""
    log = stopped / "log.jsonl"
    logged = log.read_text()
    assert [json.loads(line)["step"] for line in logged.splitlines()] == [8]
    later = json.loads(logged) | {"step": 10, "loss": -1.0}
    log.write_text(logged + json.dumps(later) + "\n" + logged[: len(logged) // 2])
    assert train.main(["--resume", str(stopped)]) == 0
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["step"] for row in rows] == [8, 10, 16]
    assert rows[0] == json.loads(logged) and rows[1]["loss"] > 0


def test_a_resumed_run_removes_what_a_killed_one_left_unfinished(stopped):
    unfinished, own = temporary_path(stopped / "metrics.json"), temporary_path(stopped / "notes.txt")
    for path in (unfinished, own):
        path.touch()
    assert train.main(["--resume", str(stopped)]) == 0
    assert own.exists() and not unfinished.exists()


@pytest.mark.parametrize("line", [b"5", b"null", b"\xff\xfe", b"[" * 100_000, b'{"step": "8"}'])
def test_odd_lines_in_the_log_are_dropped(stopped, line):
    log = stopped / "log.jsonl"
    log.write_bytes(line + b"\n" + log.read_bytes())
    assert train.main(["--resume", str(stopped)]) == 0
    assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == [8, 10, 16]


@pytest.mark.parametrize("name, lost", [("log.jsonl", "step 0 and step 16"), ("gradients.jsonl", "step 0 and step 10")])
def test_lost_lines_are_named(arguments, tmp_path, monkeypatch, caplog, name, lost):
    """The stopped run has made 9 of its 16 steps."""
    monkeypatch.setattr("minbert.training.log.LOG_EVERY", 8)
    monkeypatch.setattr("minbert.training.run_folder.LOG_EVERY", 8)
    folder = tmp_path / "run"
    for is_lost in (False, True):
        shutil.rmtree(folder, ignore_errors=True)
        with monkeypatch.context() as patch:
            stop_in_evaluation(patch)
            assert train.main([*arguments, "--epochs", "2", "--record", "gradients", "--record-every", "1"]) == 143
        if is_lost:
            (folder / name).unlink()
        assert train.main(["--resume", str(folder)]) == 0
        assert (f"{folder / name} lacks lines between {lost}" in caplog.messages) == is_lost


def test_a_resumed_run_says_how_this_machine_differs(stopped, capsys):
    change(stopped / "settings.json", threads=99)
    assert train.main(["--resume", str(stopped)]) == 0
    assert f"so the last bits may differ: threads {torch.get_num_threads()} instead of 99" in capsys.readouterr().out


def test_a_run_that_was_moved_is_resumed_from_another_working_folder(stopped, arguments, tmp_path, monkeypatch):
    """Paths that were relative when the run began are found from anywhere."""
    for name, place in (("model", arguments[1]), ("data", arguments[3])):
        shutil.copytree(place, tmp_path / "here" / name)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with monkeypatch.context() as patch:
        stop_in_evaluation(patch)
        assert train.main([*arguments, "--model", "model", "--data", "data", "--out", "a b", "--max-steps", "9"]) == 143
    (tmp_path / "here" / "a b").rename(tmp_path / "there" / "c")
    monkeypatch.chdir(tmp_path / "there")
    assert train.main(["--resume", "c"]) == 0


def test_only_one_process_at_a_time_works_on_a_run(stopped, capsys):
    other = FolderLock(stopped)
    # An editor saves a file by replacing it. The lock holds all the same.
    shutil.copyfile(stopped / "settings.json", stopped / "copy")
    (stopped / "copy").replace(stopped / "settings.json")
    before = sorted(stopped.rglob("*"))
    assert is_locked(stopped)
    assert train.main(["--resume", str(stopped)]) == 2
    assert f"{stopped}: another process is at work on this run" in capsys.readouterr().err
    assert sorted(stopped.rglob("*")) == before
    other.release()
    assert not is_locked(stopped)
    assert train.main(["--resume", str(stopped)]) == 0
    assert not [path for path in stopped.rglob(".*")]


@pytest.mark.parametrize(
    "module, name", [(weights, "load_file"), (tokenizer.Backend, "from_file"), (inputs, "find_model")]
)
def test_a_signal_while_files_are_read_is_no_broken_file(arguments, monkeypatch, capsys, module, name, tmp_path):
    if name == "from_file":
        arguments = [*arguments, "--model", str(sample.MODEL)]  # which has a tokenizer.json
    monkeypatch.setattr(module, name, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert train.main(arguments) == 143
    assert capsys.readouterr().err == "train.py: stopped by SIGTERM\n"
    assert list(tmp_path.iterdir()) == []


def test_runs_of_the_same_second_get_folders_of_their_own(tmp_path, monkeypatch):
    """Also if a run chose its name before another run made its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(run_folder.time, "strftime", lambda _: "now")
    settings, default_path = Settings(model="m", data="d"), run_folder.default_path
    first = default_path(settings)
    choices = [first, first, first]  # all three look before the first one makes its folder
    monkeypatch.setattr(run_folder, "default_path", lambda s: choices.pop() if choices else default_path(s))
    folders = [run_folder.RunFolder(settings, CPU, CONFIG, {}) for _ in range(3)]
    names = sorted(path.name for path in (tmp_path / "runs").iterdir())
    assert names == [f"rte-finetune-seed0-now{end}" for end in ("", "-2", "-3")]
    assert sorted(folder.path.name for folder in folders) == names
    for folder in folders:
        assert json.loads((folder.path / "settings.json").read_text())["out"] == str(folder.path)

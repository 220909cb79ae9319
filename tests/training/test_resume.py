"""train.py stopped and resumed as a user or a cluster would: signals, kill -9, a full disk."""

import fcntl
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time

import pytest
import torch
from support.factories import CONFIG, CPU

import sample
import train
from benchmarks.faults import kill_until_done, results
from minbert import tokenizer, weights
from minbert.errors import Interrupted
from minbert.training.settings import Settings

FLAGS = ("--option", "smart", "--device", "cpu", "--precision", "fp32", "--batch-size", "16", "--max-length", "32",
         "--lr", "1e-2", "--epochs", "12", "--checkpoint-steps", "1", "--predict", "test")  # fmt: skip


@pytest.fixture(scope="session")
def flags(model_folder, data_folder) -> tuple[str, ...]:
    return *FLAGS, "--model", str(model_folder), "--data", str(data_folder)


@pytest.fixture(scope="session")
def undisturbed(flags, tmp_path_factory) -> dict:
    folder = tmp_path_factory.mktemp("peace") / "run"
    assert train.main([*flags, "--out", str(folder)]) == 0
    return results(folder)


def test_killed_at_random_moments(flags, undisturbed, tmp_path, monkeypatch):
    """The short form of benchmarks/faults.py."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = tmp_path / "run"
    kill_until_done(flags, folder, random.Random(0), longest=6.0, kills=3)
    assert results(folder) == undisturbed


def launch(flags, folder, **more) -> subprocess.Popen:
    command = [sys.executable, train.__file__, *flags, "--out", str(folder)]
    more |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, **more)


@pytest.mark.parametrize("number, status", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_between_two_steps_and_says_how_to_go_on(flags, undisturbed, tmp_path, number, status):
    folder = tmp_path / "run"
    process = launch(flags, folder)
    while not (folder / "log.jsonl").exists():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == status and errors == f"train.py: stopped by {number.name}\n"
    last = out.splitlines()[-1]
    assert last.startswith("stopped; this goes on") and last.endswith(f"train.py --resume {folder}")
    assert {path.name for path in folder.iterdir()} >= {"settings.json", "log.jsonl", "checkpoint"}
    assert not (folder / "metrics.json").exists() and not (folder / "checkpoint" / ".new").exists()
    assert train.main(["--resume", str(folder)]) == 0
    assert results(folder) == undisturbed


def test_a_full_disk_is_named_and_nothing_is_lost(flags, undisturbed, tmp_path):
    """A real one: the system refuses to let a file grow beyond what the first checkpoint needs at least."""
    folder = tmp_path / "run"
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000))  # noqa: E731
    process = launch(flags, folder, preexec_fn=limit)
    _, errors = process.communicate(timeout=60)
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
        patch.setattr(runs, "save_model", full)
        assert train.main([*flags, "--out", str(folder)]) == 2
    assert f"{folder / 'model'} cannot be written: No space left on device" in capsys.readouterr().err
    assert {path.name for path in folder.iterdir()} == {"settings.json", "log.jsonl", "checkpoint"}
    assert train.main(["--resume", str(folder)]) == 0
    assert results(folder) == undisturbed


@pytest.mark.parametrize(
    "kept, names",
    [("all", {"model", "checkpoint", "predictions"}), ("model", {"model", "predictions"}), ("none", {"predictions"})],
)
def test_what_is_kept(arguments, tmp_path, kept, names):
    assert train.main([*arguments, "--max-steps", "2", "--save", kept]) == 0
    always = {"settings.json", "log.jsonl", "metrics.json"}
    assert {path.name for path in (tmp_path / "run").iterdir()} == names | always


def test_with_save_none_a_stopped_run_keeps_no_checkpoint(arguments, tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise Interrupted(signal.SIGTERM)

    monkeypatch.setattr(finetuning, "evaluate", stop)
    assert train.main([*arguments, "--max-steps", "2", "--save", "none"]) == 143
    assert "with --save none there is no checkpoint" in capsys.readouterr().out
    assert not (tmp_path / "run" / "checkpoint").exists()


@pytest.fixture
def stopped(arguments, tmp_path, monkeypatch, capsys):
    """The folder of a run that was stopped after its first epoch."""
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "evaluate", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or {"score": 0.0})
        patch.setattr(finetuning, "describe_scores", lambda *_: "")
        assert train.main([*arguments, "--epochs", "2"]) == 143
    capsys.readouterr()
    return tmp_path / "run"


def change(path, **values) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_resume_refuses(stopped, arguments, tmp_path, capsys):
    def refuses(message: str, *flags) -> None:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert train.main(["--resume", str(stopped), *flags]) == 2
        errors = capsys.readouterr().err.splitlines()
        assert message in errors[-1] and errors[-1].startswith("train.py: ")
        assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    refuses("--lr cannot be changed", "--lr", "1")
    refuses("does not exist", "--resume", str(tmp_path / "nowhere"))
    path = stopped / "settings.json"
    good = path.read_text()
    for bad, message in (
        ({"epochs": "two"}, "settings.json is not the settings of a run: epochs is 'two'"),
        ({"data": "/nowhere"}, "does not exist"),
        ({"max_steps": 40, "epochs": None}, "the run was to take 16 steps, and now 40"),
        ({"option": "smart", "precision": "fp32"}, "is of another model or method"),
        ({"device": "abacus:0"}, "device is 'abacus'"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
    ):
        change(path, **bad)
        refuses(message)
        path.write_text(good)
    path.write_text(good.replace('"clip"', '"clap"'))
    refuses("settings.json lacks 'clip'")
    path.write_text(good[:50])
    refuses("settings.json is not the settings of a run")
    path.write_text(good)
    assert train.main(["--resume", str(stopped), "--device", "cpu"]) == 0
    capsys.readouterr()
    refuses("the run has ended")


def test_a_resumed_run_says_what_is_different_here(stopped, capsys):
    change(stopped / "settings.json", threads=99)
    assert train.main(["--resume", str(stopped)]) == 0
    assert f"may differ: threads {torch.get_num_threads()} instead of 99" in capsys.readouterr().out


def test_from_another_folder(stopped, arguments, tmp_path, monkeypatch):
    """What was relative when the run began is found from anywhere; the folder may be elsewhere, too."""
    for name, place in (("model", arguments[1]), ("data", arguments[3])):
        shutil.copytree(place, tmp_path / "here" / name)
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with monkeypatch.context() as patch:
        patch.setattr(finetuning, "evaluate", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or {"score": 0.0})
        patch.setattr(finetuning, "describe_scores", lambda *_: "")
        assert train.main([*arguments, "--model", "model", "--data", "data", "--out", "a b", "--max-steps", "9"]) == 143
    (tmp_path / "here" / "a b").rename(tmp_path / "there" / "c")
    monkeypatch.chdir(tmp_path / "there")
    assert train.main(["--resume", "c"]) == 0


def test_one_process_at_a_time(stopped, capsys):
    with (stopped / "settings.json").open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        before = sorted(stopped.rglob("*"))
        assert train.main(["--resume", str(stopped)]) == 2
        assert f"{stopped}: another process is at work on this run" in capsys.readouterr().err
        assert sorted(stopped.rglob("*")) == before
    (stopped / "predictions").mkdir()
    (stopped / "predictions" / ".RTE.tsv.123").touch()  # of a process that was killed
    assert train.main(["--resume", str(stopped)]) == 0
    assert not [path for path in stopped.rglob(".*")]


@pytest.mark.parametrize(
    "module, name", [(weights, "load_file"), (tokenizer.Backend, "from_file"), (weights, "resolve")]
)
def test_a_signal_while_files_are_read_is_no_broken_file(arguments, monkeypatch, capsys, module, name, tmp_path):
    if name == "from_file":
        arguments = [*arguments, "--model", str(sample.MODEL)]  # which has a tokenizer.json
    monkeypatch.setattr(module, name, lambda *_: os.kill(os.getpid(), signal.SIGTERM))
    assert train.main(arguments) == 143
    assert capsys.readouterr().err == "train.py: stopped by SIGTERM\n"
    assert list(tmp_path.iterdir()) == []


def test_two_runs_of_the_same_second_do_not_collide(tmp_path, monkeypatch):
    """Both chose their name before either made its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(runs.time, "strftime", lambda _: "now")
    both = [runs.Run(Settings(model="m", data="d"), CPU) for _ in range(3)]
    for run in both:
        run.start(CONFIG, 1)
    folders = sorted((tmp_path / "runs").iterdir())
    assert [folder.name for folder in folders] == [f"rte-finetune-seed0-now{end}" for end in ("", "-2", "-3")]
    assert [json.loads((folder / "settings.json").read_text())["out"] for folder in folders] == [
        str(run.folder) for run in both
    ]

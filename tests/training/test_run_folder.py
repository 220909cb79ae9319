"""The run folder: nothing is written into a folder that is gone, and nothing of the user's is removed."""

import errno
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from support.factories import CONFIG, CPU
from support.run_folders import close_output, stop_in_evaluation

import multitask
import train
from minbert.errors import InputError
from minbert.files import temporary_path
from minbert.training import lock
from minbert.training.inputs import Inputs
from minbert.training.lock import FolderLock
from minbert.training.loop import Objective
from minbert.training.run_folder import RunFolder, unfinished_files
from minbert.training.settings import MultitaskSettings, Settings

FLAGS = ("--max-steps", "20", "--checkpoint-steps", "1")


@pytest.mark.parametrize(
    "method, change",
    [
        ("append_log", "removed"),
        ("append_log", "renamed"),
        ("append_log", "replaced"),
        ("save_model", "removed"),
        ("save_predictions", "renamed"),
        ("write_metrics", "replaced"),
    ],
)
def test_a_folder_that_goes_away_ends_the_run_in_one_line(arguments, tmp_path, monkeypatch, capsys, method, change):
    """And no second, half folder takes its place."""
    folder, elsewhere, original = tmp_path / "run", tmp_path / "elsewhere", getattr(RunFolder, method)

    def change_before(self, *args):
        if folder.exists():
            shutil.rmtree(folder) if change == "removed" else folder.rename(elsewhere)
            if change == "replaced":  # by a new run with the same name
                folder.mkdir()
        return original(self, *args)

    monkeypatch.setattr(RunFolder, method, change_before)
    assert train.main([*arguments, *FLAGS]) == 2
    printed = capsys.readouterr()
    line = f"train.py: {folder} was removed or renamed while the run was at work: the run has ended"
    assert printed.err.splitlines()[-1] == line
    assert "to go on" not in printed.out
    assert list(folder.glob("*")) == [] and folder.exists() == (change == "replaced")


def test_a_checkpoint_is_not_written_into_a_folder_that_is_gone(arguments, tmp_path, monkeypatch, capsys):
    """With --save all the checkpoints are written before the first line of the log."""
    forward = Objective.forward

    def rename_and_forward(self, batch):
        if (tmp_path / "run").exists():
            (tmp_path / "run").rename(tmp_path / "elsewhere")
        return forward(self, batch)

    monkeypatch.setattr(Objective, "forward", rename_and_forward)
    assert train.main([*arguments, *FLAGS]) == 2
    assert "was removed or renamed" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_resume_removes_only_files_that_runs_write(tmp_path):
    """Among them are the temporary files of a killed run, as write_file names them."""
    own = [str(temporary_path(Path(name))) for name in
           ("metrics.json", "log.jsonl", "predictions/test/RTE.tsv", "predictions/rte-dev.csv")]  # fmt: skip
    own.append("checkpoint/.new")
    users = [".gitignore", ".DS_Store", ".notes.txt.0badcafe", ".metrics.json.bak", ".metrics.json.",
             ".metrics.json.17", "metrics.json.0badcafe", "predictions/.RTE.tsv",
             "predictions/.ipynb_checkpoints/RTE.tsv", "checkpoint/.old"]  # fmt: skip
    for name in [*own, *users]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(unfinished_files(tmp_path, Settings())) == sorted(tmp_path / name for name in own)


def test_a_lock_that_was_given_back_between_two_calls_is_taken_anew(tmp_path):
    """The one who gives it back removes the file. A lock on a file without a name would lock nobody out."""
    first = FolderLock(tmp_path)
    waiting = (tmp_path / lock.NAME).open("ab")  # has opened the file, and waits for the lock
    first.release()
    assert lock.lock(waiting.fileno())  # it gets the lock, on a file that no longer exists
    second = FolderLock(tmp_path)
    assert second.is_ours() and (tmp_path / lock.NAME).exists()
    with pytest.raises(InputError, match="another process is at work"):
        FolderLock(tmp_path, seconds=0.0)
    second.release()
    assert list(tmp_path.iterdir()) == []


def test_the_checkpoints_of_a_run_that_was_killed_after_its_metrics_go_with_the_next_call(
    arguments, tmp_path, monkeypatch, capsys
):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("minbert.training.checkpoint.Checkpoints.remove", lambda self: None)
        assert train.main([*arguments, *FLAGS]) == 0
    assert (folder / "checkpoint").exists()
    (folder / lock.NAME).touch()
    assert train.main(["--resume", str(folder)]) == 2
    assert "the run is complete" in capsys.readouterr().err
    assert not (folder / "checkpoint").exists() and not (folder / lock.NAME).exists()


def test_a_run_that_another_process_has_just_completed_is_not_trained_again(arguments, tmp_path, monkeypatch, capsys):
    """The other one ends while this one reads the data, before it has the lock."""
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        stop_in_evaluation(patch)
        assert train.main([*arguments, *FLAGS]) == 143
    read, states = Inputs.datasets, []

    def end_meanwhile(self, task, settings):
        if not states:
            states.append(None)
            assert train.main(["--resume", str(folder)]) == 0
            states[0] = [(path, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()]
        return read(self, task, settings)

    monkeypatch.setattr(Inputs, "datasets", end_meanwhile)
    assert train.main(["--resume", str(folder)]) == 2
    assert "the run is complete" in capsys.readouterr().err
    assert [(path, path.read_bytes()) for path in sorted(folder.rglob("*")) if path.is_file()] == states[0]


@pytest.mark.skipif(lock.fcntl is None, reason="Windows has no such locks")
def test_a_file_system_without_locks_gets_a_warning_and_no_lock(tmp_path, monkeypatch, caplog):
    def unsupported(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(lock.fcntl, "flock", unsupported)
    lock.warn_of_no_locks.cache_clear()
    first, second = FolderLock(tmp_path), FolderLock(tmp_path)
    assert first.is_ours() and second.is_ours() and not lock.is_locked(tmp_path)
    assert [record.message for record in caplog.records] == [
        "this file system has no locks: two processes on one run folder would not notice each other"
    ]


def test_with_save_all_they_stay(arguments, tmp_path):
    assert train.main([*arguments, *FLAGS, "--save", "all"]) == 0
    assert train.main(["--resume", str(tmp_path / "run")]) == 2
    assert list((tmp_path / "run" / "checkpoint").iterdir())


def test_a_run_whose_loss_was_not_finite_says_what_is_left_and_what_to_do(arguments, tmp_path, monkeypatch, capsys):
    forward, calls = Objective.forward, []

    def fail_in_step_12(self, batch):
        calls.append(batch)
        total, terms = forward(self, batch)
        return (
            (total * float("nan"), terms | {"task": terms["task"] * float("nan")})
            if len(calls) == 12
            else (total, terms)
        )

    monkeypatch.setattr(Objective, "forward", fail_in_step_12)
    folder = tmp_path / "run"
    assert train.main([*arguments, *FLAGS]) == 1
    printed = capsys.readouterr()
    assert f"the last good state, after step 11, stays in {folder / 'checkpoint'}" in printed.out
    assert train.main(["--resume", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "step 12: the loss is not finite" in line and line.endswith("start a new run, for example with a lower --lr")
    assert list((folder / "checkpoint").iterdir()) and not (folder / lock.NAME).exists()


def test_a_mistake_before_the_first_step_leaves_no_folder(tmp_path):
    """Neither its settings nor its lock. A folder in which something was learned stays."""
    for name, rows in (("new", 0), ("old", 1)):
        settings = Settings(model="m", data="d", out=str(tmp_path / name)).resolve()
        with pytest.raises(InputError, match="a mistake"), RunFolder(settings, CPU, CONFIG, {}) as folder:
            for step in range(rows):
                folder.append_log({"step": step})
            raise InputError("a mistake")
    assert [path.name for path in tmp_path.iterdir()] == ["old"]
    assert json.loads((tmp_path / "old" / "log.jsonl").read_text()) == {"step": 0}


def test_the_name_of_a_task_stays_a_name_where_a_folder_has_it(tmp_path, monkeypatch):
    """Only the paths of task files become absolute: a run of /here/rte could not be read."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rte").mkdir()
    for settings in (Settings(model="m", data="d"), MultitaskSettings(model="m", data="d", tasks=("sst2", "rte"))):
        folder = RunFolder(settings.resolve(), CPU, CONFIG, {})
        saved = json.loads((folder.path / "settings.json").read_text())
        assert saved.get("task", "rte") == "rte" and saved.get("tasks", ["sst2", "rte"]) == ["sst2", "rte"]


def test_ctrl_c_that_also_ends_the_reader_of_the_output_is_still_ctrl_c(arguments, tmp_path, monkeypatch):
    """As in `train.py ... 2>&1 | tee file`. The last lines cannot be printed any more."""

    def interrupt(self, row):
        append_log(self, row)
        close_output(monkeypatch)
        os.kill(os.getpid(), signal.SIGINT)

    append_log = RunFolder.append_log
    monkeypatch.setattr(RunFolder, "append_log", interrupt)
    assert train.main([*arguments, "--max-steps", "20"]) == 130
    assert list((tmp_path / "run" / "checkpoint").iterdir())


def test_an_output_that_closes_when_the_run_is_as_good_as_done_does_not_stop_it(
    arguments, flags, tmp_path, monkeypatch
):
    """It closes after the last epoch's line, which the reader waited for."""

    def close_and_save(self, *args):
        close_output(monkeypatch)
        save_model(self, *args)

    save_model = RunFolder.save_model
    monkeypatch.setattr(RunFolder, "save_model", close_and_save)
    for program, of_program in ((train, arguments), (multitask, flags)):
        out = tmp_path / program.__name__
        assert program.main([*of_program, "--max-steps", "2", "--out", str(out)]) == 0
        assert (out / "metrics.json").exists()

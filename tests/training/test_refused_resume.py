"""--resume refuses what is not the run that was stopped, in one line, and changes no file."""

import json
import os
import shutil
from pathlib import Path

import pytest
from support.run_folders import change

import multitask
import train
from minbert import weights


def test_a_run_of_an_earlier_version_is_refused_in_one_line(stopped, capsys):
    """It wrote the field `set`, which is now `method_settings`."""
    path = stopped / "settings.json"
    values = json.loads(path.read_text())
    values["set"] = values.pop("method_settings")
    path.write_text(json.dumps(values))
    before = {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}
    assert train.main(["--resume", str(stopped)]) == 2
    assert capsys.readouterr().err == (
        f"train.py: {path} lacks 'method_settings': another program or another version of minbert wrote it; "
        "start a new run\n"
    )
    assert before == {path: path.read_bytes() for path in stopped.rglob("*") if path.is_file()}


def test_resume_refuses_other_settings_and_broken_or_complete_runs_in_one_line(stopped, arguments, tmp_path, capsys):
    def refuses(message: str, *flags) -> None:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert train.main(["--resume", str(stopped), *flags]) == 2
        errors = capsys.readouterr().err.splitlines()
        assert message in errors[-1] and errors[-1].startswith("train.py: ")
        assert all(line.startswith("going on after") for line in errors[:-1])
        assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    refuses("--lr cannot be changed", "--lr", "1")
    refuses("does not exist", "--resume", str(tmp_path / "nowhere"))
    path = stopped / "settings.json"
    good = path.read_text()
    for bad, message in (
        ({"epochs": "two"}, "settings.json does not hold the settings of a run: epochs is 'two'"),
        ({"data": "/nowhere"}, "does not exist"),
        ({"max_steps": 40, "epochs": None}, "--max-steps changed since the run began"),
        ({"option": "lora", "lr": 0.5}, "--option, --lr changed since the run began"),
        ({"lr": 0.5}, "--lr changed since the run began. Undo the change, or start a new run"),
        ({"device": "abacus:0"}, "device is 'abacus'"),
        ({"batch_size": 0}, "--batch-size must be at least 1"),
    ):
        change(path, **bad)
        refuses(message)
        path.write_text(good)
    path.write_text(good.replace('"clip"', '"clap"'))
    refuses("settings.json lacks 'clip'")
    path.write_text(good[:50])
    refuses("settings.json does not hold the settings of a run")
    path.write_text(good)
    assert train.main(["--resume", str(stopped), "--device", "cpu"]) == 0
    capsys.readouterr()
    refuses("the run is complete, it has a metrics.json")


def test_a_resumed_run_whose_inputs_changed_is_refused_by_name(stopped, arguments, capsys, tmp_path):
    """Each change alone, in a copy of data and model; paths may change, as the run may be moved."""
    for name in ("model", "data"):
        shutil.copytree(arguments[arguments.index(f"--{name}") + 1], tmp_path / name)
    change(stopped / "settings.json", model=str(tmp_path / "model"), data=str(tmp_path / "data"))

    def edit(path: Path, old: bytes, new: bytes) -> bytes:
        good = path.read_bytes()
        assert old in good
        path.write_bytes(good.replace(old, new, 1))
        return good

    config = tmp_path / "model" / "config.json"
    edits = [
        (tmp_path / "data" / "RTE" / "train.tsv", b"green\tgreen", b"green green\tgreen", "the train data of rte"),
        (tmp_path / "data" / "RTE" / "dev.tsv", b"not_entailment", b"entailment", "the dev data of rte"),
        (tmp_path / "model" / "vocab.txt", b"cat\ndog", b"dog\ncat", "the tokenizer"),
        (config, b'"layer_norm_eps": 1e-12', b'"layer_norm_eps": 1e-11', "the model"),
    ]
    for path, old, new, name in edits:
        good = edit(path, old, new)
        assert train.main(["--resume", str(stopped)]) == 2
        expected = (
            f"train.py: --resume {stopped}: {name} changed since the run began. Undo the change, or start a new run"
        )
        assert capsys.readouterr().err.splitlines()[-1] == expected
        path.write_bytes(good)
    weights_file = tmp_path / "model" / "model.safetensors"
    tensors = weights.read_safetensors(weights_file)
    good = weights_file.read_bytes()
    weights.write_safetensors(tensors | {"classifier.bias": tensors["classifier.bias"] + 1e-3}, weights_file)
    assert train.main(["--resume", str(stopped)]) == 2
    assert ": the model changed since the run began" in capsys.readouterr().err
    weights_file.write_bytes(good)
    assert train.main(["--resume", str(stopped)]) == 0


def test_a_run_without_a_fingerprint_is_refused_and_nothing_is_said_to_have_changed(stopped, capsys):
    for fingerprint in ({}, None, "x"):
        change(stopped / "settings.json", fingerprint=fingerprint)
        assert train.main(["--resume", str(stopped)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert "has no fingerprint" in line and "changed" not in line


def test_the_program_that_made_the_run_is_named(stopped, capsys):
    assert multitask.main(["--resume", str(stopped)]) == 2
    assert capsys.readouterr().err.endswith(f"train.py made this run: python train.py --resume {stopped}\n")


@pytest.mark.parametrize("make, message", [(os.mkfifo, "is not a file but a pipe"), (os.mkdir, "cannot be read: Is a")])
@pytest.mark.parametrize("name", ["log.jsonl", "settings.json"])
def test_a_log_or_settings_that_are_no_file_are_refused_at_once(stopped, make, message, name, capsys):
    (stopped / name).unlink()
    make(stopped / name)
    assert train.main(["--resume", str(stopped)]) == 2
    assert f"{stopped / name} {message}" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["null", "1.0", "[1]", "[" * 200_000])
def test_settings_that_are_no_object_are_refused_in_one_line(stopped, content, capsys):
    (stopped / "settings.json").write_text(content)
    assert train.main(["--resume", str(stopped)]) == 2
    error = capsys.readouterr().err
    assert "settings.json does not hold the settings of a run" in error and error.count("\n") == 1

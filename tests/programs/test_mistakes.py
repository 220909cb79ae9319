"""Mistakes at the command line of train.py: one line that says what is wrong, exit status 2, nothing left behind."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import train
from regularizers import first_stage

ABSENT = "mps" if not torch.backends.mps.is_available() else "cuda"


@pytest.fixture
def here(tmp_path, model_folder, data_folder) -> Path:
    """A folder with model/ and data/ of its own, to be damaged."""
    shutil.copytree(model_folder, tmp_path / "model")
    shutil.copytree(data_folder, tmp_path / "data")
    return tmp_path


def flags(here: Path) -> list[str]:
    own = ["--model", here / "model", "--data", here / "data", "--out", here / "run"]
    return [*map(str, own), "--device", "cpu", "--batch-size", "16", "--max-length", "32", "--max-steps", "1"]


def train_rows(here: Path, change) -> None:
    """change(lines of train.tsv, the header is the first)"""
    path = here / "data" / "RTE" / "train.tsv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")


def config(here: Path, change) -> None:
    path = here / "model" / "config.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))


def weights(here: Path, change) -> None:
    path = here / "model" / "model.safetensors"
    path.write_bytes(change(path.read_bytes()))


def nan(here: Path) -> None:
    path = here / "model" / "model.safetensors"
    tensors = load_file(path)
    tensors["bert.encoder.layer.1.output.dense.weight"][2, 3] = float("nan")
    save_file(tensors, path)


def more_words(here: Path) -> None:
    with (here / "model" / "vocab.txt").open("a") as file:
        file.writelines(f"more{i}\n" for i in range(9))


NOTHING = lambda here: None  # noqa: E731
MISTAKES = {
    "unknown task": (NOTHING, ["--task", "sst3"], "'sst3' is not a task; did you mean sst5?"),
    "unknown option": (NOTHING, ["--option", "smrat"], "--option 'smrat' is unknown; did you mean smart?"),
    "unknown --set name": (
        NOTHING, ["--option", "smart", "--set", "smart.epsilon=1"],
        "smart does not know epsilon; its hyper-parameters are weight, eps,",
    ),
    "--set value of the wrong type": (
        NOTHING, ["--option", "smart", "--set", "smart.steps=two"], "--set smart.steps=two: not a value of type int"
    ),
    "--set value out of range": (
        NOTHING, ["--option", "smart", "--set", "smart.eps=-1"],
        "--set smart: eps must be at least 0 and finite, not -1.0",
    ),
    "--set for another option": (NOTHING, ["--set", "smart.eps=1"], "smart is not in --option finetune"),
    "missing data folder": (
        lambda here: shutil.rmtree(here / "data"), [], "python -m minbert.download rte --to {here}/data"
    ),
    "missing file of a task": (NOTHING, ["--task", "mrpc"], "{here}/data/MRPC/train.tsv does not exist"),
    "too few columns": (
        lambda here: train_rows(here, lambda rows: [*rows[:4], "4\tred", *rows[5:]]), [],
        "{here}/data/RTE/train.tsv:5 has 2 columns instead of 4",
    ),
    "a label outside the set": (
        lambda here: train_rows(here, lambda rows: [*rows, "99\ta\tb\tperhaps"]), [],
        "{here}/data/RTE/train.tsv:122: label 'perhaps' is not one of entailment, not_entailment",
    ),
    "an empty file": (
        lambda here: (here / "data" / "RTE" / "dev.tsv").write_text(""), [], "{here}/data/RTE/dev.tsv is empty"
    ),
    "a file with a header alone": (
        lambda here: train_rows(here, lambda rows: rows[:1]), [], "{here}/data/RTE/train.tsv has no rows"
    ),
    "not UTF-8": (
        lambda here: (here / "data" / "RTE" / "dev.tsv").write_bytes(b"index\tsentence1\xe9\n"), [],
        "{here}/data/RTE/dev.tsv:1 is not UTF-8",
    ),
    "truncated safetensors": (
        lambda here: weights(here, lambda data: data[: len(data) // 2]), [],
        "{here}/model/model.safetensors cannot be read as safetensors",
    ),
    "corrupted safetensors": (
        lambda here: weights(here, lambda data: data[:20] + b"\0" * 20 + data[40:]), [],
        "{here}/model/model.safetensors cannot be read as safetensors",
    ),
    "no weights": (
        lambda here: (here / "model" / "model.safetensors").unlink(), [], "{here}/model has no model.safetensors"
    ),
    "config.json lacks a field": (
        lambda here: config(here, lambda c: {k: v for k, v in c.items() if k != "hidden_size"}), [],
        "{here}/model/config.json lacks hidden_size",
    ),
    "config.json contradicts the weights": (
        lambda here: config(here, lambda c: c | {"intermediate_size": 21}), [], "config.json says [21, 12]"
    ),
    "config.json contradicts itself": (
        lambda here: config(here, lambda c: c | {"num_attention_heads": 5}), [],
        "hidden_size 12 is not a multiple of num_attention_heads 5",
    ),
    "a vocabulary larger than the embedding": (more_words, [], "the model's vocab_size is"),
    "max-length above the position table": (
        NOTHING, ["--max-length", "64"], "--max-length 64: the model has 40 positions"
    ),
    "a broken tokenizer.json": (
        lambda here: (here / "model" / "tokenizer.json").write_text('{"version": "1.0"'), [],
        "{here}/model/tokenizer.json",
    ),
    "a NaN in the weights": (nan, [], "encoder.layer.1.output.dense.weight"),
    "--out exists": (lambda here: (here / "run").mkdir(), [], "--out {here}/run exists"),
    "--out below a file": (
        lambda here: (here / "file").write_text(""), ["--out", "{here}/file/run"], "{here}/file/run cannot be made"
    ),
    "a precision that is not there": (NOTHING, ["--precision", "fp16"], "--precision fp16 needs a CUDA device"),
    "a device that is not there": (NOTHING, ["--device", ABSENT], "this machine has no such device"),
    "a precision that the method rules out": (NOTHING, ["--option", "smart", "--precision", "bf16"], "use fp32"),
    "two lengths": (
        NOTHING, ["--epochs", "1"], "--epochs and --max-steps both set the length of the run: give one of them"
    ),
    "a schedule without warm-up": (
        NOTHING, ["--schedule", "constant", "--warmup", "0.1"],
        "--warmup has no effect with --schedule constant: use linear or slanted",
    ),
    "evaluation without dev": (NOTHING, ["--evaluate", "train"], "--evaluate must include dev"),
    "more pieces than examples": (NOTHING, ["--accumulate", "17"], "cannot split a batch of 16 into 17 micro-batches"),
    "too short an input": (NOTHING, ["--max-length", "4"], "at least 5"),
    "no batch": (NOTHING, ["--batch-size", "0"], "--batch-size must be at least 1"),
    "a negative rate": (NOTHING, ["--lr", "-1"], "--lr must be"),
    "no epsilon": (NOTHING, ["--adam-eps", "0"], "--adam-eps must be at least 1e-30, not 0.0"),
    "a rate that is no number": (NOTHING, ["--lr", "nan"], "--lr must be"),
    "dropping everything": (NOTHING, ["--dropout", "1"], "--dropout must be at least 0 and below 1, not 1.0"),
    "a seed too large": (NOTHING, ["--seed", "99999999999999999999"], "--seed must be at least 0 and below"),
    "a number in words": (NOTHING, ["--epochs", "two"], "invalid int value: 'two'"),
    "an empty name": (NOTHING, ["--model", ""], "--model is empty"),
    "no such user": (NOTHING, ["--model", "~nouser/x"], "not a folder"),
    "no such folder": (NOTHING, ["--model", "./nowhere"], "not a folder"),
    "an abbreviated flag": (NOTHING, ["--batch", "4"], "unrecognized arguments: --batch"),
    "an unknown flag": (NOTHING, ["--nonsense"], "unrecognized arguments: --nonsense"),
}  # fmt: skip


def everything(folder: Path) -> dict:
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_and_leaves_nothing_behind(here, capsys, name):
    damage, more, message = MISTAKES[name]
    damage(here)
    before = everything(here)
    assert train.main([*flags(here), *(flag.format(here=here) for flag in more)]) == 2
    out, errors = capsys.readouterr()
    assert message.format(here=here) in errors
    assert errors.startswith("train.py: ") and errors.count("\n") == 1 and out == ""
    assert everything(here) == before


def test_a_mistake_that_a_method_finds_in_its_first_stage_leaves_nothing_behind(here, capsys, monkeypatch):
    monkeypatch.setattr(first_stage, "FEWEST_EXAMPLES", 128)  # as it is outside of the tests
    before = everything(here)
    assert train.main([*flags(here), "--option", "mine"]) == 2
    out, errors = capsys.readouterr()
    assert "--option mine needs 128 inputs to train on" in errors and errors.count("\n") == 1
    assert "stopped" not in out and everything(here) == before


def test_an_out_folder_without_permission_is_refused(here, capsys, monkeypatch):
    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")  # root, who may run the tests, is never denied

    before = everything(here)
    monkeypatch.setattr(Path, "mkdir", denied)
    assert train.main(flags(here)) == 2
    assert f"--out {here}/run cannot be made: Permission denied" in capsys.readouterr().err
    assert everything(here) == before


def test_an_out_folder_without_space_is_refused(here):
    """The system itself refuses to let a file grow at all."""
    before = everything(here)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # noqa: E731
    command = [sys.executable, "-B", train.__file__, *flags(here), "--out", str(here / "a" / "b" / "run")]
    done = subprocess.run(command, preexec_fn=limit, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert f"--out {here}/a/b/run cannot be made: " in done.stderr
    assert everything(here) == before


@pytest.mark.parametrize(
    "variables, message",
    [
        ({"WORLD_SIZE": "abc"}, "the environment variable WORLD_SIZE is 'abc', not a number: torchrun sets it"),
        ({"WORLD_SIZE": "-2"}, "the environment variable WORLD_SIZE is '-2', not a number"),
        ({"WORLD_SIZE": "2"}, "WORLD_SIZE is 2, but MASTER_ADDR and MASTER_PORT missing: start with torchrun"),
        ({"LOCAL_RANK": ""}, "the environment variable LOCAL_RANK is '', not a number"),
    ],
)
def test_variables_that_torchrun_would_not_set_are_named(variables, message, arguments, monkeypatch, capsys):
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert train.main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "flags, message",
    [
        (("--batch-size", "1" + "0" * 30), "--batch-size must be at least 1 and below 2147483648"),
        (("--epochs", "99999999999"), "--epochs must be at least 1 and below 2147483648"),
        (("--data", "a\0b"), "--data holds a NUL character"),
    ],
)
def test_huge_numbers_and_nul_characters_are_refused(flags, message, arguments, capsys):
    assert train.main([*arguments, *flags]) == 2
    assert message in capsys.readouterr().err


def test_two_columns_with_one_name_are_refused(arguments, data_folder, tmp_path, capsys):
    shutil.copytree(data_folder, tmp_path / "data")
    path = tmp_path / "data" / "RTE" / "dev.tsv"
    path.write_text(path.read_text().replace("index\t", "label\t", 1))
    assert train.main([*arguments, "--data", str(tmp_path / "data")]) == 2
    assert f"{path}: two columns are named 'label'" in capsys.readouterr().err


def put(kind: str, path: Path) -> None:
    """What is no file, in place of a file. Reading a pipe or /dev/zero would never end."""
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()


KINDS = {"pipe": "is not a file but a pipe", "device": "is not a file but a pipe", "folder": "irectory"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "name",
    [
        "model/config.json",
        "model/model.safetensors",
        "model/vocab.txt",
        "model/tokenizer.json",
        "model/tokenizer_config.json",
        "data/RTE/train.tsv",
        "data/RTE/dev.tsv",
    ],
)
def test_what_is_no_file_is_refused_at_once(name, kind, here, capsys):
    put(kind, here / name)
    before = everything(here)
    assert train.main(flags(here)) == 2
    out, errors = capsys.readouterr()
    assert str(here / name) in errors and KINDS[kind] in errors and errors.count("\n") == 1 and out == ""
    assert everything(here) == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["reviews.toml", "train.csv"])
def test_what_is_no_file_is_refused_as_a_task_file_or_its_data(name, kind, arguments, tmp_path, capsys):
    (tmp_path / "reviews.toml").write_text(
        'name = "reviews"\ntrain = "train.csv"\ndev = "dev.csv"\ntext = "a"\nlabel = "b"\nlabels = ["0", "1"]\n'
        'metrics = ["accuracy"]\n'
    )
    for split in ("train", "dev"):
        (tmp_path / f"{split}.csv").write_text("a,b\nred,1\n")
    put(kind, tmp_path / name)
    assert train.main([*arguments, "--task", str(tmp_path / "reviews.toml")]) == 2
    errors = capsys.readouterr().err
    assert str(tmp_path / name) in errors and KINDS[kind] in errors and errors.count("\n") == 1

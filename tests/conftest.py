"""Fixtures that many tests share: a tiny checkpoint, folders of task files that can be learned, command lines."""

import csv
import json
import os
import random
from pathlib import Path

import pytest
import torch
from support.factories import (
    COURSE,
    COURSE_COLUMNS,
    COURSE_SIZES,
    QUICK,
    VOCABULARY,
    label_of,
    make_model,
    sentence,
    write_rows,
)

from minbert import weights
from minbert.data.tasks import TASKS
from regularizers import first_stage

# The tensors here are too small to share out. An explicit OMP_NUM_THREADS holds: it tests that threads change nothing.
if "OMP_NUM_THREADS" not in os.environ:
    torch.set_num_threads(1)


DEVICES = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]


@pytest.fixture(params=DEVICES)
def device(request) -> torch.device:
    """The CPU, and the first GPU of a machine that has one."""
    return torch.device("cuda", 0) if request.param == "cuda" else torch.device("cpu")


@pytest.fixture(autouse=True)
def quick_first_stage(monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setattr(first_stage, name, value)


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    """A published-style checkpoint with vocab.txt."""
    folder = tmp_path_factory.mktemp("tiny-bert")
    weights.save_model(make_model(TASKS["rte"]), folder)
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory) -> Path:
    """RTE in the official layout, 120/40/7 rows: entailed if all the words are red."""
    folder, rng = tmp_path_factory.mktemp("glue"), random.Random(0)
    for split, size in (("train", 120), ("dev", 40), ("test", 7)):
        rows = [["index", "sentence1", "sentence2", "label"]]
        for i in range(size):
            word, label = rng.choice([("red", "entailment"), ("green", "not_entailment")])
            rows.append([str(i), " ".join([word] * rng.randint(3, 8)), word, label])
        write_rows(folder / "RTE" / f"{split}.tsv", [r[:3] for r in rows] if split == "test" else rows)
    return folder


@pytest.fixture
def arguments(model_folder, data_folder, tmp_path):
    """Of train.py, for the tiny model and task."""
    return ["--model", str(model_folder), "--data", str(data_folder), "--out", str(tmp_path / "run"), "--device", "cpu",
            "--precision", "fp32", "--batch-size", "16", "--max-length", "32"]  # fmt: skip


@pytest.fixture(scope="session")
def course(tmp_path_factory) -> Path:
    """Stanford's files of the three tasks; one record of Quora's dev set lost its label."""
    folder, rng = tmp_path_factory.mktemp("course"), random.Random(0)
    for split, sizes in COURSE_SIZES.items():
        for task, size in zip(COURSE, sizes):
            with (folder / dict(TASKS[task].files)[split]).open("w", newline="", encoding="utf-8") as file:
                rows = csv.writer(file, delimiter="\t", lineterminator="\n")
                rows.writerow(COURSE_COLUMNS[task] if split != "test" else COURSE_COLUMNS[task][:-1])
                for i in range(size):
                    texts = [sentence(rng) for _ in TASKS[task].text]
                    label = [] if split == "test" else [label_of(task, texts, rng)]
                    if (task, split, i) == ("quora", "dev", 3):
                        label = [""]
                    rows.writerow([i, f"{rng.getrandbits(100):025x}", *texts, *label])
    return folder


@pytest.fixture
def flags(model_folder, course, tmp_path) -> list[str]:
    """Of multitask.py, for the tiny model and tasks."""
    return ["--model", str(model_folder), "--data", str(course), "--out", str(tmp_path / "run"), "--device", "cpu",
            "--precision", "fp32", "--batch-size", "8", "--max-length", "32", "--lr", "1e-2"]  # fmt: skip


@pytest.fixture
def read_json():
    return lambda path: json.loads(Path(path).read_text(encoding="utf-8"))

"""Run folders that the tests of the report share, made once for each test process. Tests that change one copy it."""

import csv
import json
import random
import shutil
from pathlib import Path

import pytest
from support.factories import WORDS, write_rows

import multitask
import train
from minbert.files import write_text

QUICK = "--batch-size 8 --max-length 32 --lr 1e-2 --device cpu --precision fp32".split()
LABELS = ["bad", "fine", "good"]
HOSTILE = [  # texts that a user's data can hold
    "<script>alert('&amp;')</script> | a_b *c* `d`",
    "red\tgreen\nfish\r\n\x1b[31mcat\x00\u2028dog",
    "שלום עולם كلب",  # right to left
    "\u202edog cat\u202c \u2066x",  # reordered
    "👩‍👩‍👧 naïve e\u0301",
    "red " * 900,
]


@pytest.fixture(scope="session")
def own_data(tmp_path_factory) -> Path:
    """A folder with reviews.toml, three classes, and pairs.toml, a regression. Their dev sets hold hostile texts."""
    folder, rng = tmp_path_factory.mktemp("own"), random.Random(0)
    for split, texts in (("train", ["red fish"] * 30), ("dev", [*HOSTILE, *["green cat", "red dog"] * 7])):
        with (folder / f"{split}.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(["id", "review", "stars"])
            rows.writerows([f"{split}<{i}>", text, rng.choice(LABELS)] for i, text in enumerate(texts))
        with (folder / f"pairs-{split}.jsonl").open("w", encoding="utf-8") as file:
            for i, text in enumerate(texts):
                row = {"id": i, "one": text, "other": texts[i - 1], "same": rng.uniform(0, 5)}
                file.write(json.dumps(row) + "\n")
    (folder / "reviews.toml").write_text(
        'name = "reviews"\ntrain = "train.csv"\ndev = "dev.csv"\ntext = ["review"]\n'
        f'label = "stars"\nlabels = {json.dumps(LABELS)}\nmetrics = ["macro-f1", "accuracy"]\n',
        encoding="utf-8",
    )
    (folder / "pairs.toml").write_text(
        'name = "pairs"\ntrain = "pairs-train.jsonl"\ndev = "pairs-dev.jsonl"\ntext = ["one", "other"]\n'
        'label = "same"\nmetrics = ["pearson"]\n',
        encoding="utf-8",
    )
    return folder


@pytest.fixture(scope="session")
def make_run(model_folder, tmp_path_factory):
    """Train, and return the run folder."""

    def make(name: str, *flags: str, program=train) -> Path:
        folder = tmp_path_factory.mktemp("runs") / name
        assert program.main([*QUICK, "--model", str(model_folder), "--out", str(folder), *flags]) == 0
        return folder

    return make


@pytest.fixture(scope="session")
def rte_data(tmp_path_factory) -> Path:
    """RTE with 120 and 40 examples. Each text is there twice, with both labels: half of any answers are mistakes."""
    folder = tmp_path_factory.mktemp("glue")
    labels = ["entailment", "not_entailment"]
    for split, size in (("train", 120), ("dev", 40)):
        rows = [["index", "sentence1", "sentence2", "label"]]
        for i in range(size):
            rows.append([str(i + 100), " ".join(["red", "green"][i // 2 % 2] for _ in range(i // 2 % 7 + 1)),
                         f"{WORDS[i // 2 % 17]}", labels[i % 2]])  # fmt: skip
        write_rows(folder / "RTE" / f"{split}.tsv", rows)
    return folder


@pytest.fixture(scope="session")
def rte(make_run, rte_data) -> Path:
    """Two classes, two epochs of 15 steps, SMART's penalties, train scores, 25 of 40 dev examples."""
    flags = "--epochs 2 --option smart --evaluate dev train --dev-size 25".split()
    return make_run("rte-smart-seed0", "--data", str(rte_data), *flags)


@pytest.fixture(scope="session")
def reviews(make_run, own_data) -> Path:
    """A user's own three classes."""
    return make_run("reviews", "--task", str(own_data / "reviews.toml"), "--max-steps", "4")


@pytest.fixture(scope="session")
def pairs(make_run, own_data) -> Path:
    """A user's own regression."""
    return make_run("pairs", "--task", str(own_data / "pairs.toml"), "--max-steps", "4")


@pytest.fixture(scope="session")
def multi(make_run, course) -> Path:
    """sst5, quora (one logit) and sts."""
    return make_run("multi", "--data", str(course), "--max-steps", "12", program=multitask)


@pytest.fixture
def copy(tmp_path):
    """A copy of a run folder, which a test may change."""
    return lambda folder, name="copy": Path(shutil.copytree(folder, tmp_path / name))


@pytest.fixture
def quick_pictures(monkeypatch):
    """Pictures are made, but not drawn, which takes most of the time of a report."""

    def save(figure, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        for suffix in ("png", "svg"):
            write_text(path.with_name(f"{path.name}.{suffix}"), "<svg/>")

    monkeypatch.setattr("minbert.report.figure_files.save_picture", save)

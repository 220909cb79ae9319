"""Tiny stand-ins for everything: a random BERT of odd sizes, its tokenizer, and a task folder that can be learned."""

import csv
import json
import random
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from minbert import losses, weights
from minbert.batches import Batch, Dataset
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.readers import Example, Examples
from minbert.runtime import Runtime
from minbert.tasks import TASKS
from minbert.tokenizer import Tokenizer, word_piece
from regularizers import build, mutual_information

CPU = Runtime(torch.device("cpu"))
torch.set_num_threads(1)  # the tensors here are too small to share out

WORDS = "the a cat dog bird fish sees hears likes red green small big not and or runs sleeps".split()
VOCABULARY = ["[UNK]", "[CLS]", "[PAD]", "[SEP]", "[MASK]", *WORDS, "##s", ",", ".", '"']
CONFIG = BertConfig(
    vocab_size=len(VOCABULARY) + 3,
    hidden_size=12,
    num_hidden_layers=3,
    num_attention_heads=3,
    intermediate_size=20,
    max_position_embeddings=40,
    initializer_range=0.3,
)

# The kinds of output that a method must work for, and the two ways to compare sentences that are encoded alone.
KINDS = {
    "two classes": TASKS["rte"],
    "three classes": TASKS["mnli"],
    "regression": TASKS["stsb"],
    "one logit": replace(
        TASKS["stsb"], name="onelogit", loss=losses.binary_cross_entropy, divergence=losses.bernoulli_kl
    ),
    "separate classes": replace(TASKS["mnli"], separate=True),
    "separate regression": replace(TASKS["stsb"], separate=True),
}

# A first stage long enough to go through all its parts; what it finds is tested in test_mutual_information.py.
QUICK = {"STEPS": 10, "EVERY": 5, "DRAWS": 2, "FEWEST_EXAMPLES": 16}


@pytest.fixture(autouse=True)
def quick_first_stage(monkeypatch):
    for name, value in QUICK.items():
        monkeypatch.setattr(mutual_information, name, value)


def make_model(*tasks, seed: int = 0, **changes) -> SentenceModel:
    torch.manual_seed(seed)
    return SentenceModel(BertModel(replace(CONFIG, **changes)), tasks or (TASKS["rte"],))


def make_batch(task=TASKS["rte"], rows: int = 5, tokens: int = 7, seed: int = 0) -> Batch:
    """Random ids with padding: input i has `tokens` - i of them real."""
    generator = torch.Generator().manual_seed(seed)
    inputs = rows * (2 if task.separate else 1)
    real = torch.arange(tokens) < (tokens - torch.arange(inputs)).clamp(min=2)[:, None]
    ids = torch.randint(5, CONFIG.vocab_size, (inputs, tokens), generator=generator)
    if task.labels:
        labels = torch.arange(rows) % task.outputs
    else:
        labels = torch.arange(rows) % 2 if task.loss is losses.binary_cross_entropy else torch.rand(rows) * 5
    segments = (torch.arange(tokens) > tokens // 2).long().expand(inputs, -1) * real
    return Batch(ids * real, segments, real, labels, torch.arange(rows), task)


def noise_by_place(size: int = 40):
    """Stands in for torch.randn_like and rand_like: row i's token t gets the same noise whatever the batch's shape,
    and a weight the same in each pass."""
    noise = torch.rand(size, size, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def draw(x: torch.Tensor, **_) -> torch.Tensor:
        if x.ndim == 3:
            return noise[: x.shape[0], : x.shape[1]].to(x.dtype)
        return torch.rand(x.shape, dtype=x.dtype, generator=torch.Generator().manual_seed(0))

    return draw


def write_rows(path: Path, rows: list[list[str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join("\t".join(row) + "\n" for row in rows), encoding="utf-8")
    return path


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(3, 8)))


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
            "--batch-size", "16", "--max-length", "32"]  # fmt: skip


COURSE = ("sst5", "quora", "sts")
COURSE_COLUMNS = {
    "sst5": ["", "id", "sentence", "sentiment"],
    "quora": ["", "id", "sentence1", "sentence2", "is_duplicate"],
    "sts": ["", "id", "sentence1", "sentence2", "similarity"],
}
COURSE_SIZES = {"train": (50, 66, 34), "dev": (21, 30, 26), "test": (5, 6, 7)}


def label_of(task: str, texts: list[str], rng: random.Random) -> str:
    """Something that can be learned: of the number of words."""
    words = len(texts[0].split())
    return {"sst5": str(words % 5), "quora": f"{words % 2}.0", "sts": str(words - 3 + rng.random() / 2)}[task]


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


class Log:
    """What training.fit wants of a run: it keeps the rows of the log."""

    def __init__(self):
        self.rows = []

    def log(self, row: dict) -> None:
        self.rows.append(row)


@pytest.fixture
def read_json():
    return lambda path: json.loads(Path(path).read_text(encoding="utf-8"))


def make_dataset(task=TASKS["rte"], size: int = 24, seed: int = 0) -> Dataset:
    """Random sentences with labels for any of KINDS."""
    rng = random.Random(seed)
    rows = []
    for i in range(size):
        label = i % task.outputs if task.labels else float(i % 2)
        rows.append(Example(str(i), sentence(rng), sentence(rng), label, line=i + 2))
    return Dataset(task, Examples(Path("rows.tsv"), rows, []), Tokenizer(vocabulary_backend()), 32)


def vocabulary_backend():
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
        return word_piece(Path(folder))


def attached(option: str, settings=(), *tasks, **config) -> SentenceModel:
    """A model with the modules of these methods in it."""
    model = make_model(*tasks, **config)
    build(option, settings).attach(model)
    return model


def inserted(model) -> dict[str, torch.Tensor]:
    """The parameters that plain BERT does not have, by name."""
    return {name: p for name, p in model.bert.named_parameters() if weights.is_inserted(name)}

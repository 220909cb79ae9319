"""Spoiled files are refused with one clear line, or load correctly. There is never another exception, a hang, or memory
far beyond the size of the file. Not collected by default: python -m pytest tests/fuzz.py (with requirements-dev.txt).

support/slow_readers.py says what is correct. Every run draws the same files.
"""

import collections
import contextlib
import csv
import faulthandler
import json
import os
import resource
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from support import slow_readers
from support.factories import CONFIG, VOCABULARY, vocabulary_backend
from support.official_rows import OFFICIAL
from support.spoil import spoiled_bytes, spoiled_safetensors, spoiled_table, spoiled_text

from minbert import weights
from minbert.bert import BertModel
from minbert.config import BertConfig
from minbert.data.readers import read_examples
from minbert.data.task_file import load_task_file
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.published import current_name, published_name
from minbert.tokenizer import load_tokenizer

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", "200"))  # spoiled files of each kind
SECONDS = 20  # after which a file counts as a hang; a file takes milliseconds
ROOM = 256 << 20  # bytes of address space that an example may add: the files here have 50 kB at most

os.environ["TOKENIZERS_PARALLELISM"] = "false"  # each thread reserves address space

SMALL = replace(CONFIG, num_hidden_layers=2)
PLAIN = "The cat sees dogs and zebra"


class Kind:
    """A folder of correct files, the way to spoil one of them, and the check of what is then loaded."""

    file: str

    def fill(self, folder: Path) -> None:
        """Write the correct files."""

    def spoiled(self, good: bytes) -> st.SearchStrategy[bytes]:
        return spoiled_text(json.loads(good))

    def check(self, folder: Path) -> None:
        """Load, and compare with the slow reader. Raises InputError for a file that is refused."""


@dataclass
class Table(Kind):
    name: str

    def __post_init__(self):
        self.task = TASKS[self.name]
        self.file = str(Path(self.task.folder, dict(self.task.files)["train"]))

    def fill(self, folder: Path) -> None:
        (folder / self.file).parent.mkdir(exist_ok=True)
        header, row, _ = OFFICIAL.get(self.name) or (["", "id", *self.task.text, self.task.label], self.course_row(), 0)
        label = (header or self.task.header).index(self.task.label)
        bare = [*row[:label], "", *row[label + 1 :]]
        short = row[:label] if label == len(row) - 1 else bare  # it ends before its label
        rows = [header or row, row, bare, [""], short, row]
        (folder / self.file).write_text("\n".join("\t".join(row) for row in rows), encoding="utf-8")

    def course_row(self) -> list[str]:
        texts = ['"say ""a cat"", é"', '"two\nlines, x""y"'][: len(self.task.text)]
        return ["0", "aa", *texts, self.task.labels[1] if self.task.labels else "3.5"]

    def spoiled(self, good: bytes) -> st.SearchStrategy[bytes]:
        return spoiled_bytes(good)

    def check(self, folder: Path) -> None:
        expected = slow_readers.table(self.task, (folder / self.file).read_bytes())
        try:
            read = read_examples(self.task, folder, "train")
        except InputError:
            assert expected is None, "a correct file was refused"
            raise
        rows = [(row.id, row.text, row.pair, row.label, row.line) for row in read.rows]
        assert (rows, read.left_out) == expected


@dataclass
class OwnTable(Kind):
    """The training file of a user's own task: classes of a pair, or a regression of one text."""

    suffix: str
    separator: str
    labels: tuple[str, ...] = ()

    def __post_init__(self):
        names = {",": "commas", "\t": "tabs", ";": "semicolons", "": "json"}
        self.file, self.name = f"train{self.suffix}", f"own-{names[self.separator]}-{len(self.labels)}"

    def fill(self, folder: Path) -> None:
        text = ["review", "pair"] if self.labels else ["review"]
        task = {"name": "own", "train": self.file, "dev": "dev.csv", "text": text, "label": "stars"}
        task |= {"labels": list(self.labels), "metrics": ["accuracy"]} if self.labels else {"metrics": ["pearson"]}
        (folder / "own.toml").write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in task.items()))
        header = ["id", *text, "stars", "note"]
        label = self.labels[1] if self.labels else "3.5"
        texts = ['say "a cat", é', "two\nlines; a\ttab|"][: len(text)]
        rows = [[i, *texts, "" if i == "c" else label, "x"] for i in ("a", "b", "c", "d")]
        with (folder / self.file).open("w", newline="", encoding="utf-8") as file:
            if self.suffix == ".jsonl":
                file.writelines(json.dumps(dict(zip(header, row, strict=True))) + "\n" for row in rows)
            else:
                csv.writer(file, delimiter=self.separator, lineterminator="\n").writerows([header, *rows])

    def spoiled(self, good: bytes) -> st.SearchStrategy[bytes]:
        return spoiled_table(good)

    def check(self, folder: Path) -> None:
        task = load_task_file(folder / "own.toml")
        expected = slow_readers.own_table(task, (folder / self.file).read_bytes(), self.suffix)
        try:
            read = read_examples(task, folder, "train")
        except InputError:
            assert expected is None, "a correct file was refused"
            raise
        rows = [(row.id, row.text, row.pair, row.label, row.line) for row in read.rows]
        assert (rows, read.left_out) == expected


class Weights(Kind):
    """model.safetensors. The next two are config.json beside it, and the index of shards in its place."""

    file = weights.WEIGHTS

    def fill(self, folder: Path) -> None:
        (folder / "config.json").write_text(json.dumps(SMALL.to_dict()))
        save_file(TENSORS, folder / weights.WEIGHTS)

    def spoiled(self, good: bytes) -> st.SearchStrategy[bytes]:
        return spoiled_safetensors(good)

    def check(self, folder: Path) -> None:
        same_weights(BertModel.from_pretrained(folder), slow_readers.safetensors(folder / self.file))


class Config(Weights):
    file = "config.json"
    spoiled = Kind.spoiled

    def check(self, folder: Path) -> None:
        expected = slow_readers.config((folder / self.file).read_bytes())
        try:
            assert vars(BertConfig.from_json(folder / self.file)) == expected
        except InputError:
            assert expected is None, "a correct file was refused"
            raise
        model = BertModel.from_pretrained(folder)
        assert vars(model.config) == expected
        same_weights(model, {name: tensor.numpy() for name, tensor in TENSORS.items()})


class Index(Config):
    file = weights.INDEX

    def fill(self, folder: Path) -> None:
        super().fill(folder)
        (folder / weights.WEIGHTS).unlink()
        names, shards = sorted(TENSORS), ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
        for i, shard in enumerate(shards):
            save_file({name: TENSORS[name] for name in names[i::2]}, folder / shard)
        (folder / self.file).write_text(json.dumps({"weight_map": {n: shards[i % 2] for i, n in enumerate(names)}}))

    def check(self, folder: Path) -> None:
        same_weights(BertModel.from_pretrained(folder), {name: tensor.numpy() for name, tensor in TENSORS.items()})
        assert isinstance(json.loads((folder / self.file).read_bytes())["weight_map"], dict)


class TokenizerJson(Kind):
    file = "tokenizer.json"

    def fill(self, folder: Path) -> None:
        vocabulary_backend().save(str(folder / self.file))

    def check(self, folder: Path) -> None:
        """With any word pieces: [CLS] a [SEP] b [SEP], with segments, and at most as long as asked for."""
        tokenizer = load_tokenizer(folder)
        first, last = (tokenizer.backend.token_to_id(token) for token in ("[CLS]", "[SEP]"))
        for texts, pairs, longest in ((["", PLAIN, "é猫 \x01"], None, 9), ([PLAIN, ""], ["a dog", PLAIN], 512)):
            for ids, types in tokenizer(texts, pairs, longest):
                assert ids[0] == first and ids[-1] == last and len(ids) == len(types) <= longest
                assert ids.count(last) >= (2 if pairs else 1) and types == sorted(types)
                assert set(types) == ({0, 1} if pairs else {0}) and 0 <= min(ids) <= max(ids) < len(tokenizer)
        assert 0 <= tokenizer.pad_id < len(tokenizer)


class Vocabulary(TokenizerJson):
    file = "vocab.txt"

    def fill(self, folder: Path) -> None:
        (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
        (folder / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": True, "strip_accents": None}))

    def spoiled(self, good: bytes) -> st.SearchStrategy[bytes]:
        return spoiled_bytes(good)

    def check(self, folder: Path) -> None:
        super().check(folder)
        settings = json.loads((folder / "tokenizer_config.json").read_bytes())
        lower = settings.get("do_lower_case", True)
        expected = slow_readers.word_pieces((folder / "vocab.txt").read_bytes(), PLAIN, lower)
        assert load_tokenizer(folder)([PLAIN])[0].input_ids == expected


class TokenizerConfig(Vocabulary):
    file = "tokenizer_config.json"
    spoiled = Kind.spoiled


def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {published_name(name): tensor for name, tensor in BertModel(SMALL).state_dict().items()}


TENSORS = tensors()
KINDS = [*map(Table, (*OFFICIAL, "sst5", "cfimdb", "quora", "sts")), Weights(), Config(), Index()]
OWN = ((".csv", ","), (".tsv", "\t"), (".csv", ";"), (".jsonl", ""))
KINDS += [OwnTable(*form, labels) for form in OWN for labels in ((), ("bad", "good"))]
KINDS += [TokenizerJson(), Vocabulary(), TokenizerConfig()]


def same_weights(model: BertModel, arrays: dict[str, np.ndarray]) -> None:
    """Each tensor finite and as in the file; a pooler that the file lacks is fresh."""
    arrays = {current_name(name): array for name, array in arrays.items()}
    for name, tensor in model.state_dict().items():
        assert tensor.isfinite().all()
        if name.startswith("pooler.") and not any(other.startswith("pooler.") for other in arrays):
            continue
        assert np.array_equal(tensor.numpy(), arrays[published_name(name)])


@contextlib.contextmanager
def guarded():
    """A hang ends the process with a trace. An allocation of much memory fails, even if the memory is never used."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    faulthandler.dump_traceback_later(SECONDS, exit=True)
    resource.setrlimit(resource.RLIMIT_AS, (taken + ROOM, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        faulthandler.cancel_dump_traceback_later()


def outcome(kind: Kind, folder: Path) -> str:
    try:
        with guarded():
            kind.check(folder)
        return "loaded"
    except InputError as error:
        assert str(error).isprintable() and len(str(error)) < 3000 and str(folder) in str(error)
        return "refused"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: Path(kind.file).stem + "-" + getattr(kind, "name", "model"))
def test_spoiled_files_are_refused_or_load_correctly(kind, capsys):
    counts, started = collections.Counter(), time.perf_counter()
    with tempfile.TemporaryDirectory() as name, capsys.disabled():
        folder = Path(name)
        kind.fill(folder)
        assert outcome(kind, folder) == "loaded"

        @settings(
            max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=HealthCheck
        )
        @given(kind.spoiled((folder / kind.file).read_bytes()))
        def spoil(data: bytes) -> None:
            (folder / kind.file).write_bytes(data)
            counts[outcome(kind, folder)] += 1

        spoil()
        print(
            f"\n{kind.file}: {counts['loaded']} loaded, {counts['refused']} refused, "
            f"{time.perf_counter() - started:.1f} s"
        )
    assert counts["loaded"] and counts["refused"], "both outcomes must occur, or the test shows little"

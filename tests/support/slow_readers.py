"""Slow readers for tests/fuzz.py, which share no code with minbert's: what a file holds.

Each returns None for a file that must be refused.
"""

import csv
import json
import math
import re
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np

from minbert.config import REQUIRED, BertConfig
from minbert.data.tasks import COURSE
from minbert.task import Task

NUMBER = re.compile(r"\s*[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?\s*")


class RefusedError(Exception):
    """The file breaks a rule."""


def table(task: Task, data: bytes) -> tuple[list[tuple], list[int]] | None:
    """((id, text, pair, label, line) of each record, lines of the records left out) of a training file."""
    try:
        lines = numbered_lines(without_marks(data.decode("utf-8")))
        if task in COURSE:
            commas = "\t" not in lines[0][1] and "," in lines[0][1] if lines else False
            records = [(last, fields) for _, last, fields in quoted(lines, "," if commas else "\t", both=commas)]
        else:
            records = [(number, line.split("\t")) for number, line in lines]
        return checked(task, records)
    except (UnicodeDecodeError, RefusedError):
        return None


def without_marks(text: str) -> str:
    while text[:1] == "\ufeff":  # some programs write two
        text = text[1:]
    return text


def numbered_lines(text: str) -> list[tuple[int, str]]:
    lines = text.split("\n")
    return [(i, line.rstrip("\r")) for i, line in enumerate(lines, 1) if line or i < len(lines)]


def quoted(lines: list[tuple[int, str]], separator: str = "\t", both: bool = False):
    """(first line, last line, fields) of each record.

    Character by character: a field may stand in quotes, and then hold separators, line ends and doubled quotes; but,
    unless `both`, not both a separator and a line end, and after the closing quote nothing but the end of the field.
    """
    fields, inside, fresh, closed, first = [""], False, True, False, 1
    for number, line in lines:
        rest = line + "\n"
        while rest:
            c, rest = rest[0], rest[1:]
            if inside and c == '"':
                if rest[:1] == '"':
                    fields[-1], rest = fields[-1] + c, rest[1:]
                else:
                    inside, closed = False, True
            elif inside:
                fields[-1] += c
            elif c == '"' and fresh:
                inside, fresh = True, False
            elif c == separator:
                fields, fresh, closed = [*fields, ""], True, False
            elif c == "\n":
                if not both and any("\n" in field and separator in field for field in fields):
                    raise RefusedError
                yield first, number, fields
                fields, fresh, closed, first = [""], True, False, number + 1
            elif c == "\r" or closed:  # a line end of old, outside quotes; something after a quote
                raise RefusedError
            else:
                fields[-1], fresh = fields[-1] + c, False
    if inside:
        raise RefusedError


def checked(task: Task, records: list[tuple[int, list[str]]], cut: bool = True) -> tuple[list[tuple], list[int]]:
    """`cut`: a record may end before its label."""
    names = list(task.header) or (records.pop(0)[1] if records else [])
    needed = (*task.text, task.label)
    if any(name not in names for name in needed) or any(names.count(n) > 1 for n in (*needed, "index", "id")):
        raise RefusedError
    text, label = [names.index(name) for name in task.text], names.index(task.label)
    rows, left_out = [], []
    for line, fields in records:
        if fields == [""]:
            continue
        ends_before_label = cut and len(fields) == label < len(names) and all(place < label for place in text)
        if len(fields) < len(names) and (task.skip_short or ends_before_label):
            left_out.append(line)
        elif len(fields) != len(names):
            raise RefusedError
        elif fields[label] == "":
            left_out.append(line)
        else:
            number = next(
                (fields[names.index(name)] for name in ("id", "index") if name in names), str(len(rows) + len(left_out))
            )
            first, *second = (fields[place] for place in text)
            rows.append((number, first, second[0] if second else None, meaning(task, fields[label]), line))
    if not rows:
        raise RefusedError
    return rows, left_out


def meaning(task: Task, label: str) -> float:
    if task.labels and label in task.labels:
        return task.labels.index(label)
    if task.labels or not NUMBER.fullmatch(label) or abs(float(label)) > np.finfo(np.float32).max:
        raise RefusedError
    return float(label)


def own_table(task: Task, data: bytes, suffix: str) -> tuple[list[tuple], list[int]] | None:
    """The same for a file of a user's own task."""
    try:
        lines = numbered_lines(without_marks(data.decode("utf-8")))
        needed = [*task.text, task.label]
        if not lines:
            raise RefusedError
        records = json_records(lines, needed) if suffix == ".jsonl" else own_records(lines, needed)
        return checked(replace(task, skip_short=False), records, cut=False)
    except (UnicodeDecodeError, RefusedError):
        return None


def own_records(lines: list[tuple[int, str]], needed: list[str]) -> list[tuple[int, list[str]]]:
    """The header first. Its separator is the one that gives all needed columns, and of several the most columns."""
    try:
        headers = {separator: next(csv.reader([lines[0][1]], delimiter=separator), []) for separator in ",\t;|"}
    except csv.Error:
        raise RefusedError from None
    separator = max(headers, key=lambda s: (set(needed) <= set(headers[s]), len(headers[s])))
    header = headers[separator]
    if not set(needed) <= set(header) or len(set(header)) < len(header):
        raise RefusedError
    texts = dict(lines)
    records = list(quoted(lines, separator, both=True))[1:]
    records = [(first, fields) for first, last, fields in records if first != last or texts[first]]
    if any(len(fields) != len(header) for _, fields in records):
        raise RefusedError
    return [(1, header), *records]


def json_records(lines: list[tuple[int, str]], needed: list[str]) -> list[tuple[int, list[str]]]:
    try:
        objects = [(number, json.loads(line, object_pairs_hook=once)) for number, line in lines if line.strip()]
        first = objects[0][1] if objects else {}
        names = [*needed, *(name for name in ("id", "index") if name in first and name not in needed)]
        return [(0, names), *((number, [json_text(values[name]) for name in names]) for number, values in objects)]
    except (ValueError, RecursionError, KeyError, TypeError, IndexError):
        raise RefusedError from None


def once(pairs: list[tuple]) -> dict:
    if len({name for name, _ in pairs}) < len(pairs):
        raise ValueError("twice")
    return dict(pairs)


def json_text(value) -> str:
    if isinstance(value, list | dict):
        raise ValueError("nested")
    if isinstance(value, str):
        value.encode()
        return value
    return "" if value is None else json.dumps(value)


def config(data: bytes) -> dict | None:
    """The fields of BertConfig of a BERT, if they are possible."""
    try:
        values = json.loads(data.decode("utf-8"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or any(name not in values for name in REQUIRED):
        return None
    others = {"positions_after_padding", "embedding_size", "share_layers", "attention_output_dropout",
              "feed_forward_dropout", "pooler_activation", "dropout_before_pooler"}  # fmt: skip
    usual = vars(BertConfig()) | {"position_embedding_type": "absolute", "is_decoder": False}
    values = usual | {name: value for name, value in values.items() if name in usual and name not in others}
    if values["pad_token_id"] is None:
        values["pad_token_id"] = 0
    shares = [values[name] for name in usual if name.endswith(("_prob", "_eps", "_range"))]
    if values["classifier_dropout"] is not None:
        shares.append(values["classifier_dropout"])
    possible = (
        values["model_type"] == "bert"
        and values["position_embedding_type"] == "absolute"
        and values["is_decoder"] == False  # noqa: E712, null is refused and 0 is not
        and values["hidden_act"] in ("gelu", "gelu_new")
        and all(type(values[name]) is int and values[name] > 0 for name in REQUIRED)
        and all(type(values[name]) is int and values[name] >= 0 for name in ("type_vocab_size", "pad_token_id"))
        and all(type(share) in (int, float) and 0 <= share < 1 for share in shares)
        and values["hidden_size"] % values["num_attention_heads"] == 0
        and values["pad_token_id"] < values["vocab_size"]
    )
    return {name: values[name] for name in vars(BertConfig())} if possible else None


def safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a file that is known to be whole. bfloat16 is the upper half of a float32."""
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    arrays = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            start, end = (8 + size + offset for offset in entry["data_offsets"])
            arrays[name] = array(data[start:end], entry["dtype"]).reshape(entry["shape"])
    return arrays


def array(data: bytes, dtype: str) -> np.ndarray:
    if dtype == "BF16":
        return (np.frombuffer(data, np.uint16).astype(np.uint32) << 16).view(np.float32)
    kinds = {"F64": np.float64, "F32": np.float32, "F16": np.float16}
    return np.frombuffer(data, kinds.get(dtype, np.uint8)).astype(np.float32)  # others are never compared


def word_pieces(data: bytes, words: str, lower: bool) -> list[int]:
    """[CLS] pieces [SEP], the longest piece first, of words of plain ASCII letters."""
    lines = without_marks(data.decode("utf-8")).removesuffix("\n").split("\n")
    ids = {line.rstrip("\r"): number for number, line in enumerate(lines)}
    found = [ids["[CLS]"]]
    for word in (words.lower() if lower else words).split():
        found += pieces(ids, word) or [ids["[UNK]"]]
    return [*found, ids["[SEP]"]]


def pieces(ids: dict[str, int], word: str) -> list[int]:
    found, rest, mark = [], word, ""
    while rest:
        size = next((n for n in range(len(rest), 0, -1) if mark + rest[:n] in ids), math.inf)
        if size is math.inf:
            return []
        found.append(ids[mark + rest[:size]])
        rest, mark = rest[size:], "##"
    return found

"""Files of a task -> examples. A file's suffix says how its records are written: see READERS at the end."""

import csv
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from minbert.errors import InputError
from minbert.tasks import ROWS, Task


@dataclass(frozen=True)
class Example:
    id: str  # of the column index or id, else the row's number from 0
    text: str
    pair: str | None
    label: float | int | None  # a class number, a number, or None in a test set
    line: int = 0  # of the file, from 1


@dataclass(frozen=True)
class Examples:
    path: Path
    rows: list[Example]
    left_out: list[int]  # line numbers of records that lost their label


def read_examples(task: Task, data: Path, split: str) -> Examples:
    """Read one file of `task` below the folder `data`.

    Raises InputError naming file and line: no such file, not UTF-8, a missing column, an unknown label, no rows.
    """
    paths = task.paths(data, split)
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise InputError(not_there(task, Path(data), split, paths))
    return read_file(task, path, split)


def not_there(task: Task, data: Path, split: str, paths: list[Path]) -> str:
    """What to tell whoever looks for the file at `paths`."""
    text = f"neither {paths[0]} nor {paths[1]} exists" if paths[1:] else f"{paths[0]} does not exist"
    text += f": {data} is a file, and --data" if data.is_file() else ": --data"
    text += " names the folder that holds the tasks' files"
    if split not in ROWS[task.name]:
        return f"{text}; this one is not published, it comes with the course's project"
    return f"{text}, and `python -m minbert.download {task.name} --to {shlex.quote(str(data))}` fetches them"


def read_file(task: Task, path: Path, split: str) -> Examples:
    """The same for a file that is known to be there.

    A test set has no labels: what CMU's files of CFIMDB have in their place, 0 on every line, is not read.
    """
    records = READERS[path.suffix](path)
    labelled = not split.startswith("test")
    header = list(task.header) if task.header and labelled else next(records)[1]
    text = [column(header, name, path) for name in task.text]
    label = column(header, task.label, path) if labelled else None
    number = next((header.index(name) for name in ("index", "id") if name in header), None)
    rows, left_out = [], []
    for line, fields in records:
        if fields in ([], [""]):  # an empty line between records
            continue
        if is_incomplete(task, fields, header, text, label):
            left_out.append(line)
            continue
        if len(fields) != len(header):
            raise InputError(f"{path}:{line} has {len(fields)} columns instead of {len(header)}")
        rows.append(
            Example(
                id=fields[number] if number is not None else str(len(rows) + len(left_out)),
                text=fields[text[0]],
                pair=fields[text[1]] if len(text) == 2 else None,
                label=None if label is None else parse_label(task, fields[label], path, line),
                line=line,
            )
        )
    if not rows:
        raise InputError(f"{path} has no rows")
    return Examples(path, rows, left_out)


def is_incomplete(task: Task, fields: list[str], header: list[str], text: list[int], label: int | None) -> bool:
    """The record lost its label, or ends just before it; or it is short in a file that is known to have such rows."""
    if len(fields) < len(header):
        return task.skip_short or (label is not None and len(fields) == label and max(text) < label)
    return label is not None and len(fields) == len(header) and not fields[label]


def subset(examples: Examples, size: int | None) -> Examples:
    """`size` examples drawn at random, the same ones in every run; all of them for None."""
    if size is None or size >= len(examples.rows):
        return examples
    chosen = torch.randperm(len(examples.rows), generator=torch.Generator().manual_seed(0))[:size]
    return Examples(examples.path, [examples.rows[i] for i in chosen.sort().values], examples.left_out)


def read_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each line. A quote is a character like any other."""
    for number, line in read_lines(path):
        yield number, line.split("\t")


def read_quoted_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number of its last line and the fields of each record, which may run over several lines.

    Fields may stand in quotes, and a quote inside is doubled. A quote that is never closed must not make many records
    one: with a line, it would swallow the tabs of that line.
    """
    reader = csv.reader((line + "\n" for _, line in read_lines(path)), delimiter="\t", strict=True)
    start = 1
    try:
        for fields in reader:
            if any("\n" in field and "\t" in field for field in fields):
                raise csv.Error("a quote runs over the end of the record")
            yield reader.line_num, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path}:{start}: the quotes of the record that begins here do not match: {error}") from None


def read_labelled_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield a header, which these files lack, then the number, the label and the text of each line."""
    yield 0, ["sentiment", "sentence"]
    for number, line in read_lines(path):
        label, bar, text = line.partition(" ||| ")
        if line and not bar:
            raise InputError(f"{path}:{number} has no ' ||| ' between label and text")
        yield number, [label.strip(), text] if bar else []


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number and the text of each line. Only a line feed ends a line: texts hold other separators.

    Raises InputError for a file that is empty, not UTF-8, or cannot be read.
    """
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                yield number, line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
    except UnicodeDecodeError:
        raise InputError(f"{path}:{number} is not UTF-8") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if number == 0:
        raise InputError(f"{path} is empty")


def column(header: list[str], name: str, path: Path) -> int:
    if name not in header:
        raise InputError(f"{path} has no column {name!r}; its columns are {', '.join(header) or 'none'}")
    return header.index(name)


def parse_label(task: Task, text: str, path: Path, line: int) -> float | int:
    if task.labels:
        if text not in task.labels:
            raise InputError(f"{path}:{line}: label {text!r} is none of {', '.join(task.labels)}")
        return task.labels.index(text)
    try:
        value = float(text if "_" not in text else "")  # 1_0 is a number in Python's source only
    except ValueError:
        value = float("nan")
    if not abs(value) <= torch.finfo(torch.float32).max:  # what labels are kept in
        raise InputError(f"{path}:{line}: score {text!r} is not a number")
    return value


READERS = {
    ".tsv": read_fields,  # GLUE
    ".csv": read_quoted_fields,  # Stanford CS224N: tabs, in spite of the name
    ".txt": read_labelled_lines,  # CMU ANLP: label ||| text
}

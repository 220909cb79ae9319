"""Files of a task -> examples. GLUE's tab-separated files have no quoting: a quote is a character like any other."""

from dataclasses import dataclass
from pathlib import Path

import torch

from minbert.errors import InputError
from minbert.tasks import Task


@dataclass(frozen=True)
class Example:
    id: str  # the first column where it is called index or id, else the row's number from 0
    text: str
    pair: str | None
    label: float | int | None  # a class number, a number, or None in a test set


@dataclass(frozen=True)
class Examples:
    path: Path
    rows: list[Example]
    left_out: list[int]  # line numbers of records that lost their label


def read_examples(task: Task, data: Path, split: str) -> Examples:
    """Read one file of `task` below the folder `data`.

    Raises InputError naming file and line: no such file, not UTF-8, a missing column, an unknown label, no rows.
    """
    path = Path(data) / task.folder / dict(task.files)[split]
    lines = read_lines(path)
    labelled = not split.startswith("test")
    if task.header and labelled:
        header, first = list(task.header), 1
    else:
        header, first = next(lines, []), 2
    text = [column(header, name, path) for name in task.text]
    label = column(header, task.label, path) if labelled else None
    number = header.index("index") if "index" in header else None
    rows, left_out = [], []
    for line, fields in enumerate(lines, start=first):
        if len(fields) < len(header) and (task.skip_short or missing_only_label(fields, text, label)):
            left_out.append(line)
            continue
        if len(fields) < len(header):
            raise InputError(f"{path}:{line} has {len(fields)} columns instead of {len(header)}")
        if label is not None and not fields[label]:
            left_out.append(line)
            continue
        rows.append(
            Example(
                id=fields[number] if number is not None else str(len(rows)),
                text=fields[text[0]],
                pair=fields[text[1]] if len(text) == 2 else None,
                label=None if label is None else parse_label(task, fields[label], path, line),
            )
        )
    if not rows:
        raise InputError(f"{path} has no rows")
    return Examples(path, rows, left_out)


def subset(examples: Examples, size: int | None) -> Examples:
    """`size` examples drawn at random, the same ones in every run; all of them for None."""
    if size is None or size >= len(examples.rows):
        return examples
    chosen = torch.randperm(len(examples.rows), generator=torch.Generator().manual_seed(0))[:size]
    return Examples(examples.path, [examples.rows[i] for i in chosen.sort().values], examples.left_out)


def missing_only_label(fields: list[str], text: list[int], label: int | None) -> bool:
    """The row ends just before its label, its texts are there."""
    return label is not None and len(fields) == label and max(text) < label


def read_lines(path: Path):
    """Yield the fields of each line. Only a line feed ends a line: texts hold other line separators."""
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            for line in file:
                yield line.rstrip("\r\n").split("\t")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: --data names the folder that holds {path.parent.name}/") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8: {error}") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


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
        value = float(text)
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise InputError(f"{path}:{line}: score {text!r} is not a number")
    return value

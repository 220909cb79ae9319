"""Files of a task -> examples. The suffix of a file decides how its records are read: see READERS at the end."""

import csv
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from minbert.data.own_files import ID_COLUMNS, csv_reader, describe_csv_error, open_own_file
from minbert.data.tasks import ROWS
from minbert.errors import InputError
from minbert.files import read_lines
from minbert.task import Task


@dataclass(frozen=True)
class Example:
    """One row of a file."""

    id: str  # from the column id or index; the row's number, from 0, where there is no such column
    text: str
    pair: str | None
    label: float | int | None  # a class index, a real value, or None in a test set
    line: int = 0  # line number in the file, from 1


@dataclass(frozen=True, eq=False)  # compared by identity: comparing the rows of two files would take long
class Examples:
    """The rows of one file."""

    path: Path
    rows: list[Example]
    left_out: list[int]  # line numbers of records without a label
    form: str = ""  # of a user's own file: "separated by commas"
    is_cut: bool = False  # whether the file has more rows, which --train-size or --dev-size leaves out


def read_examples(task: Task, data: Path | str, split: str) -> Examples:
    """Read the file of one split of `task` below the folder `data`.

    Raises InputError that names file and line: no such file, not UTF-8, a missing column, an unknown label, no rows.
    """
    paths = task.paths(Path(data), split)
    path = next((path for path in paths if path.exists()), None)
    if path is None:
        raise InputError(describe_missing(task, Path(data), split, paths))
    return read_file(task, path, split)


def describe_missing(task: Task, data: Path, split: str, paths: list[Path]) -> str:
    """The message for a file that is at none of `paths`: where it should be, and how to get it."""
    names = [str(path) for path in paths]
    text = f"neither {', nor '.join(names)} exists" if names[1:] else f"{names[0]} does not exist"
    if task.own:
        return f"{text}; the paths in a task file are relative to the file"
    text += f"; {data} is a file, but --data" if data.is_file() else "; --data"
    text += " must name the folder that holds the tasks' files"
    if split not in ROWS[task.name]:
        return f"{text}. This file is not published: it comes with the course's project"
    return f"{text}. To download it: python -m minbert.download {task.name} --to {shlex.quote(str(data))}"


def read_file(task: Task, path: Path, split: str) -> Examples:
    """Read one file that exists. Raises InputError as read_examples does.

    A test set has no labels. Where CMU's CFIMDB files have 0 on every line instead, the 0 is not read.
    """
    labelled, form = not split.startswith("test"), ""
    if task.own:
        file = open_own_file(path, [*task.text, task.label] if labelled else task.text)
        header, records, form = file.header, file.records, file.form
    else:
        records = READERS[path.suffix](path)
        header = list(task.header) if task.header and labelled else next(records)[1]
    for name in header:
        if name in (*task.text, task.label, *ID_COLUMNS) and header.count(name) > 1:
            raise InputError(f"{path}: two columns are named {name!r}")
    text = [column(header, name, path) for name in task.text]
    label = column(header, task.label, path) if labelled else None
    id_column = next((header.index(name) for name in ID_COLUMNS if name in header), None)
    rows, left_out = [], []
    for line, fields in records:
        # An empty line between records. (In a user's own file [""] is a row: one text, which is empty.)
        if not task.own and fields in ([], [""]):
            continue
        if is_incomplete(task, fields, header, text, label):
            left_out.append(line)
            continue
        if len(fields) != len(header):
            raise InputError(f"{path}:{line} has {len(fields)} columns instead of {len(header)}")
        rows.append(
            Example(
                id=fields[id_column] if id_column is not None else str(len(rows) + len(left_out)),
                text=fields[text[0]],
                pair=fields[text[1]] if len(text) == 2 else None,
                label=None if label is None else parse_label(task, usual_label(task, fields[label]), path, line),
                line=line,
            )
        )
    if not rows:
        raise InputError(f"{path} has no rows")
    if not labelled:
        check_ids(rows, path)
    return Examples(path, rows, left_out, form)


def check_ids(rows: list[Example], path: Path) -> None:
    """Raise InputError for an id that two rows have: nobody could tell their predictions apart."""
    lines: dict[str, int] = {}
    for row in rows:
        if row.id in lines:
            raise InputError(f"{path}:{row.line}: the id {row.id!r} appears twice, first in line {lines[row.id]}")
        lines[row.id] = row.line


def is_incomplete(task: Task, fields: list[str], header: list[str], text: list[int], label: int | None) -> bool:
    """Whether a record lacks its label: the label is empty, or the line ends before the column of the label."""
    if len(fields) < len(header):
        return task.skip_short or (label is not None and len(fields) == label and max(text) < label)
    return label is not None and len(fields) == len(header) and not fields[label]


def subset(examples: Examples, size: int | None) -> Examples:
    """Draw `size` examples at random, the same ones in every run. None keeps all."""
    if size is None or size >= len(examples.rows):
        return examples
    chosen = torch.randperm(len(examples.rows), generator=torch.Generator().manual_seed(0))[:size]
    return replace(examples, rows=[examples.rows[i] for i in chosen.sort().values], is_cut=True)


def read_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the fields of each line. A quote is an ordinary character."""
    for number, line in read_lines(path):
        yield number, line.split("\t")


def read_quoted_fields(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the fields of each record, with the number of its last line: a record may span several lines.

    Tabs separate the fields, or commas where the header has no tab. (The course at Göttingen had tabs until 2024.)
    Fields may be quoted; a quote inside is doubled. A quote that is never closed must not merge many records into
    one. It would swallow the tabs of the next line, so a field with a line end and a tab is refused.
    """
    _, header = next(read_lines(path))
    separator = "\t" if "\t" in header or "," not in header else ","
    reader, start = csv_reader(path, separator), 1
    try:
        for fields in reader:
            if separator == "\t" and any("\n" in field and "\t" in field for field in fields):
                raise csv.Error("a quoted field goes past the end of its record")
            yield reader.line_num, fields
            start = reader.line_num + 1
    except csv.Error as error:
        raise InputError(describe_csv_error(path, start, error)) from None


def read_labelled_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield a header, which these files do not have, then the line number, the label and the text of each line."""
    yield 0, ["sentiment", "sentence"]
    for number, line in read_lines(path):
        label, bar, text = line.partition(" ||| ")
        if line and not bar:
            raise InputError(f"{path}:{number} lacks ' ||| ' between label and text")
        yield number, [label.strip(), text] if bar else []


def column(header: list[str], name: str, path: Path) -> int:
    if name not in header:
        raise InputError(f"{path} has no column {name!r}; its columns are {', '.join(header) or 'none'}")
    return header.index(name)


def usual_label(task: Task, text: str) -> str:
    """Quora's labels are 0.0 and 1.0 in one course's files, 0 and 1 in another's."""
    return f"{text}.0" if f"{text}.0" in task.labels else text


def parse_label(task: Task, text: str, path: Path, line: int) -> float | int:
    if task.labels:
        if text not in task.labels:
            raise InputError(f"{path}:{line}: label {text!r} is not one of {', '.join(task.labels)}")
        return task.labels.index(text)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if "_" in text:  # float() reads 1_0 as 10
        value = float("nan")
    if not abs(value) <= torch.finfo(torch.float32).max:  # the labels are stored as float32
        raise InputError(f"{path}:{line}: score {text!r} is not a number")
    return value


READERS = {
    ".tsv": read_fields,  # GLUE
    ".csv": read_quoted_fields,  # CS224N: separated by tabs, in spite of the name; Göttingen: by tabs or commas
    ".txt": read_labelled_lines,  # CMU ANLP: label ||| text
}

"""The files of a user's own task: csv and tsv, whose separator shows in the header, and jsonl."""

import csv
import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minbert.command_line import is_utf8
from minbert.errors import InputError
from minbert.files import LONGEST_TEXT, parse_json, read_lines

SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}
JSON_LINES = (".jsonl", ".ndjson")
ID_COLUMNS = ("id", "index")  # the first of them that a file has names its rows
Record = tuple[int, list[str]]  # the number of the record's first line, and its fields


@dataclass(frozen=True)
class OwnFile:
    """A file whose form is known."""

    header: list[str]
    records: Iterator[Record]
    form: str  # "separated by commas"


def open_own_file(path: Path, needed: Sequence[str]) -> OwnFile:
    """Find out the form of a file. `needed` are the columns that must be there.

    Raises InputError that names the file, and the line if there is one, with the likely cause. Errors in later records
    are raised when these are read.
    """
    if path.suffix.lower() in JSON_LINES:
        _, first = next(read_objects(path), (0, {}))
        columns = [*needed, *(name for name in ID_COLUMNS if name in first and name not in needed)]
        return OwnFile(columns, read_json_lines(path, columns), "one JSON object a line")
    _, first = next(iter(read_lines(path)))
    headers = {separator: split_header(path, first, separator) for separator in SEPARATORS}
    fitting = [separator for separator, header in headers.items() if set(needed) <= set(header)]
    if not fitting:
        raise InputError(describe_missing_column(path, headers, needed))
    usual = "\t" if path.suffix.lower() == ".tsv" else ","  # of a header of one column, which has no separator
    separator = max(fitting, key=lambda separator: (len(headers[separator]), separator == usual))
    header = headers[separator]
    for name in header:
        if header.count(name) > 1:
            raise InputError(f"{path}: two columns are named {name!r}")
    return OwnFile(header, read_separated(path, separator, len(header)), f"separated by {SEPARATORS[separator]}")


def split_header(path: Path, line: str, separator: str) -> list[str]:
    """The names of the columns. Raises InputError if the first line cannot hold any."""
    if not line.strip():
        raise InputError(f"{path}: the first line is empty: it must hold the names of the columns")
    try:
        return next(csv.reader([line], delimiter=separator))
    except csv.Error as error:
        raise InputError(
            f"{path}:1 does not hold the names of the columns: {error}. Do the lines end with a carriage return alone?"
        ) from None


def describe_missing_column(path: Path, headers: dict[str, list[str]], needed: Sequence[str]) -> str:
    """The message for a header without a needed column: its columns, and the one with the closest name."""
    separator = max(
        headers, key=lambda separator: (len(set(needed) & set(headers[separator])), len(headers[separator]))
    )
    header = headers[separator]
    missing = next(name for name in needed if name not in header)
    close = difflib.get_close_matches(missing, header, n=1) or [
        name for name in header if name.strip().lower() == missing.strip().lower()
    ]
    hint = f"; did you mean {close[0]!r}?" if close else ""
    found = f"separated by {SEPARATORS[separator]}: {', '.join(header)}" if len(header) > 1 else f"only {header[0]!r}"
    return f"{path} has no column {missing!r} in its first line. Its columns are {found}{hint}"


def read_separated(path: Path, separator: str, columns: int) -> Iterator[Record]:
    """Yield the records after the header. A field in quotes may hold separators, line ends and doubled quotes."""
    reader, start = csv_reader(path, separator), 1
    try:
        for fields in reader:
            line, start = start, reader.line_num + 1
            if line == 1 or not fields:  # the header, or an empty line between records
                continue
            if len(fields) != columns:
                raise InputError(
                    f"{path}:{line} has {len(fields)} columns instead of {columns}"
                    + likely_cause(fields, columns, separator)
                )
            yield line, fields
    except csv.Error as error:
        raise InputError(describe_csv_error(path, start, error)) from None


def csv_reader(path: Path, separator: str) -> Any:
    """The csv module's reader of a file. Its limit for a field holds for the whole process, and is 131,072 at first."""
    csv.field_size_limit(LONGEST_TEXT)
    return csv.reader((line + "\n" for _, line in read_lines(path)), delimiter=separator, strict=True)


def describe_csv_error(path: Path, start: int, error: csv.Error) -> str:
    """The message for a record that starts in line `start` and cannot be read."""
    if "field larger than" in str(error):
        return f"{path}:{start}: a field has more than {LONGEST_TEXT} characters"
    return (
        f"{path}:{start}: the quotes in the record that starts here do not match: {error}. A field that "
        'begins with a quote must end with one, and a quote inside it is doubled: "He said ""no""."'
    )


def likely_cause(fields: list[str], columns: int, separator: str) -> str:
    if len(fields) > columns:
        return f". A text with one of the {SEPARATORS[separator]} that separate the columns needs quotes around it"
    return ". The line may have been cut, or a line end in a text needs quotes around the text"


def read_json_lines(path: Path, needed: Sequence[str]) -> Iterator[Record]:
    """Yield the needed values of the object on each line, as text."""
    for number, values in read_objects(path):
        yield number, [json_field(values, name, path, number) for name in needed]


def read_objects(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line that is not empty."""
    for number, line in read_lines(path):
        if not line.strip():
            continue
        try:
            values = parse_json(line)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise InputError(f"{path}:{number} is not a JSON object")
        yield number, values


def json_field(values: dict, name: str, path: Path, number: int) -> str:
    """One value as the text that a csv file would have: 2 -> "2", true -> "true", null -> ""."""
    if name not in values:
        close = difflib.get_close_matches(name, values, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f"; it has {', '.join(values) or 'none'}"
        raise InputError(f"{path}:{number} has no key {name!r}{hint}")
    value = values[name]
    if isinstance(value, dict | list):
        raise InputError(f"{path}:{number}: {name!r} must be a text or a number, not {json.dumps(value)[:40]}")
    if value is None:
        return ""
    text = value if isinstance(value, str) else json.dumps(value)
    if not is_utf8(text):  # JSON can write "\ud83d", one half of a pair
        raise InputError(f"{path}:{number}: {name!r} holds half of a character, {text[:40]!r}")
    return text

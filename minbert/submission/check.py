"""What a grader would reject in a folder of predictions. The forms are those of minbert.predictions, read backwards."""

import codecs
import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path

from minbert.data.predictions import File, known_files
from minbert.data.readers import parse_label, read_file
from minbert.data.tasks import ROWS, UNLABELLED
from minbert.errors import InputError
from minbert.files import read_lines

KNOWN = known_files()
SHOWN = 10  # problems of one file; the rest are counted


@dataclass
class Report:
    files: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what could not be compared, and what is not there yet


@dataclass(frozen=True)
class Expected:
    """The rows that a file has to have."""

    keys: list[str] | None = None  # in order; None where they are not known
    sizes: tuple[int, ...] = ()  # any of these; none where that is not known either
    note: str = ""


def check(folder: Path, data: Path | None = None, complete: bool = False) -> Report:
    """Look at every file of predictions in `folder`, which may be a run's.

    The rows are compared with the files below `data`; without it, with what is known of the published ones. `complete`
    calls for all the files that are handed in together. Raises InputError where `folder` or `data` is no folder, and
    where the data's own files are broken.
    """
    for path in filter(None, (folder, data)):
        if not path.is_dir():
            raise InputError(f"{path} is not a folder")
    folder = handed_in(folder)
    report, suffixes = Report(), {Path(name).suffix for name in KNOWN}
    for path in sorted(folder.iterdir()):
        if path.suffix in suffixes and not path.name.startswith("."):
            look(path, data, report)
    missing = missing_files({path.name for path in report.files})
    if missing:
        (report.problems if complete else report.notes).append(f"{folder} lacks {', '.join(missing)}")
    if not report.files:
        report.problems.append(f"{folder} has no file of predictions that a grader knows")
    return report


def handed_in(folder: Path) -> Path:
    """The folder itself; or, of a run's folder or its predictions/, the part with the files that are graded."""
    places = (folder / part for part in (".", "test", "predictions", "predictions/test"))
    return next((place for place in places if any((place / name).exists() for name in KNOWN)), folder)


def look(path: Path, data: Path | None, report: Report) -> None:
    """Add one file to the report."""
    if path.name not in KNOWN:
        names = {name.lower(): name for name in KNOWN}
        close = difflib.get_close_matches(path.name.lower(), names, n=1)
        hint = "".join(f"; is it {names[name]}?" for name in close)
        report.problems.append(f"{path}: no grader knows this name{hint}")
        return
    report.files.append(path)
    expected = expect(KNOWN[path.name], data)
    if expected.note:
        report.notes.append(f"{path}: {expected.note}")
    try:
        problems = examine(path, KNOWN[path.name], expected)
    except InputError as error:  # empty, or not text
        problems = [str(error)]
    report.problems += problems[:SHOWN]
    if len(problems) > SHOWN:
        report.problems.append(f"{path}: {len(problems) - SHOWN} more problems")


def missing_files(names: set[str]) -> list[str]:
    """The files that are handed in together with those named, and are not among them."""
    groups = {KNOWN[name].group for name in names}
    return [name for name, file in KNOWN.items() if file.group in groups and name not in names]


def expect(file: File, data: Path | None) -> Expected:
    """The keys of the data where there are any, else what is known of the published files."""
    task, form, note = file.task, file.form, ""
    if data is not None:
        (path,) = (path for path in task.paths(data, file.split) if path.suffix == form.suffix)
        if path.exists():
            keys = [form.key(example) for example in read_file(task, path, file.split).rows]
            return Expected(keys, (len(keys),))
        note = f"{path} does not exist, so it is checked against the published file's rows"
    size = ROWS[task.name].get(file.split)
    if size is None:
        return Expected(note="how many rows the published file has is not known; --data would tell")
    if form.suffix == ".tsv":  # GLUE numbers the rows of each file
        return Expected([str(i) for i in range(size)], (size,), note)
    return Expected(None, (size, size - UNLABELLED.get(task.name, {}).get(file.split, 0)), note)


def examine(path: Path, file: File, expected: Expected) -> list[str]:
    """The problems of one file. Raises InputError for a file that has no lines of text."""
    lines = list(read_lines(path))
    problems, keys = wrong_header(path, file, lines), []
    for number, line in lines:
        row = file.form.pattern.fullmatch(line)
        if row:
            keys.append((number, row["key"]))
            problems += wrong_value(path, number, file, row["value"])
        else:
            problems.append(f"{path}:{number}: {line[:80]!r} is not of the form {file.form.row!r}")
    compare = compare_ids if file.form.ids else compare_sentences
    problems += compare(path, file, keys, expected)
    # Where ids are known, those that are missing or too many have been named.
    if (expected.keys is None or not file.form.ids) and expected.sizes and len(lines) not in expected.sizes:
        problems.append(f"{path} has {len(lines)} rows instead of {expected.sizes[0]}")
    return problems


def wrong_header(path: Path, file: File, lines: list[tuple[int, str]]) -> list[str]:
    """Take the header out of `lines`, whatever it says; but a file that starts with a row keeps the row."""
    problems = []
    with path.open("rb") as opened:
        if opened.read(3) == codecs.BOM_UTF8:
            problems.append(f"{path}:1: a byte order mark stands before the first character")
    first, wanted = lines[0][1], file.form.heading(file.task.name)
    if not wanted:
        return problems
    row = file.form.pattern.fullmatch(first)
    if not (row and re.fullmatch(file.form.ids, row["key"])):
        del lines[0]
    if first != wanted:
        problems.append(f"{path}:1: the header is {first[:80]!r} instead of {wanted!r}")
    return problems


def wrong_value(path: Path, number: int, file: File, text: str) -> list[str]:
    """A label that is none, or a score out of range. (Class numbers are within any limits.)"""
    try:
        value = parse_label(file.task, text, path, number)
    except InputError as error:
        return [str(error)]
    low, high = file.form.limits
    if low <= value <= high:
        return []
    return [f"{path}:{number}: score {text} lies outside {low:g} to {high:g}"]


def compare_ids(path: Path, file: File, keys: list[tuple[int, str]], expected: Expected) -> list[str]:
    """Ids that are there twice, unknown, missing, or out of order."""
    known, problems, seen = set(expected.keys or []), [], {}
    for number, key in keys:
        if key in seen:
            problems.append(f"{path}:{number}: id {key} is on line {seen[key]} already")
        elif known and key not in known:
            problems.append(f"{path}:{number}: {file.split} has no id {key!r}")
        elif not known and not re.fullmatch(file.form.ids, key):
            problems.append(f"{path}:{number}: {key!r} is no id of the form {file.form.ids}")
        seen.setdefault(key, number)
    missing = [key for key in expected.keys or [] if key not in seen]
    if missing:
        shown = ", ".join(missing[:3]) + (", ..." if missing[3:] else "")
        problems.append(f"{path} lacks {len(missing)} of {len(known)} ids: {shown}")
    if file.form.ordered and not problems:
        misplaced = [(row, wanted) for row, wanted in zip(keys, expected.keys) if row[1] != wanted]
        problems += [
            f"{path}:{number}: id {key} stands where {wanted} belongs" for (number, key), wanted in misplaced[:1]
        ]
    return problems


def compare_sentences(path: Path, file: File, keys: list[tuple[int, str]], expected: Expected) -> list[str]:
    """The first that is not the data's on that line: the others may only have been pushed aside by it."""
    wanted = dict(enumerate(expected.keys or [], start=1))
    wrong = [(number, key) for number, key in keys if key != wanted.get(number, key)]
    return [
        f"{path}:{number}: {file.split} has {wanted[number][:40]!r} here, not {key[:40]!r}" for number, key in wrong[:1]
    ]

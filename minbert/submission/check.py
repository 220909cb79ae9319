"""What a grader would reject in a folder of prediction files. Their forms are in minbert.data.predictions."""

import codecs
import difflib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from minbert.data.predictions import KNOWN_FILES, LEADERBOARD, PredictionFile
from minbert.data.readers import parse_label, read_file
from minbert.data.tasks import UNLABELLED
from minbert.errors import InputError
from minbert.files import read_json_object, read_lines

MAX_SHOWN = 10  # problems of one file; the others are counted


@dataclass
class Report:
    """The prediction files of a folder, and what a grader would reject in them."""

    files: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # checks that were not possible, and files that are missing

    def __str__(self) -> str:
        files = "1 file" if len(self.files) == 1 else f"{len(self.files)} files"
        verdict = f"{files}: a grader would {'reject' if self.problems else 'accept'} this"
        return "\n".join([*self.problems, *(f"note: {note}" for note in self.notes), verdict])


def check_predictions(folder: Path, data: Path | None = None, complete: bool = False) -> Report:
    """Check every prediction file in `folder`, which may be a run folder.

    The rows are compared with the task files below `data`, else with those that the run in `folder` read, else with
    what is known of the published files. With `complete` the files of one form must all be there. Raises InputError if
    `folder` or `data` is not a folder, or if a file below `data` cannot be read.
    """
    for path in filter(None, (folder, data)):
        if not path.is_dir():
            raise InputError(f"{path} is not a folder")
    report = Report()
    if data is None and (data := data_of_run(folder)):
        report.notes.append(f"compared with the data of the run, {data}")
    for place in find_graded_folders(folder):
        check_folder(place, data, complete, report)
    return report


def check_folder(folder: Path, data: Path | None, complete: bool, report: Report) -> None:
    """Add the files that lie in this folder, their problems and their notes to the report."""
    suffixes = {Path(name).suffix for name in KNOWN_FILES}
    for path in sorted(folder.iterdir()):
        if path.name in KNOWN_FILES:
            check_file(path, data, report)
        elif path.suffix in suffixes and not path.name.startswith("."):
            names = {name.lower(): name for name in KNOWN_FILES}
            close = difflib.get_close_matches(path.name.lower(), names, n=1)
            hint = f"; did you mean {names[close[0]]}?" if close else ""
            report.problems.append(f"{path}: no grader knows this file name{hint}")
    present = [path.name for path in report.files if path.parent == folder]
    forms = [KNOWN_FILES[name].form for name in present]
    missing = [name for name, file in KNOWN_FILES.items() if file.form in forms and name not in present]
    if missing:
        (report.problems if complete else report.notes).append(f"{folder} lacks {', '.join(missing)}")
    if not present:
        report.problems.append(f"{folder} has no prediction file that a grader knows")


def data_of_run(folder: Path) -> Path | None:
    """The folder with the data of the run in `folder`; None if it is not a run folder, or the data are not there."""
    if not (folder / "settings.json").exists():
        return None
    data = read_json_object(folder / "settings.json").get("data")
    return Path(data) if isinstance(data, str) and Path(data).is_dir() else None


def find_graded_folders(folder: Path) -> list[Path]:
    """The folders with graded files: `folder`, and those inside it if `folder` is a run or its predictions.

    A run of several tasks can have files of the leaderboard and of a course. Without any file it is `folder` alone.
    """
    candidates = [
        folder / name for name in (".", "test", "bert", "predictions", "predictions/test", "predictions/bert")
    ]
    return [path for path in candidates if any((path / name).exists() for name in KNOWN_FILES)] or [folder]


def check_file(path: Path, data: Path | None, report: Report) -> None:
    """Add one file, its problems and its notes to the report."""
    report.files.append(path)
    keys, sizes, note = find_expected_rows(KNOWN_FILES[path.name], data)
    if note:
        report.notes.append(f"{path}: {note}")
    try:
        problems = list(find_problems(path, KNOWN_FILES[path.name], keys, sizes))
    except InputError as error:  # the file is empty, or is not text
        problems = [str(error)]
    report.problems += problems[:MAX_SHOWN]
    if len(problems) > MAX_SHOWN:
        report.problems.append(f"{path}: {len(problems) - MAX_SHOWN} more problems")


def find_expected_rows(file: PredictionFile, data: Path | None) -> tuple[list[str], tuple[int, ...], str]:
    """The keys in order, or else the accepted numbers of rows, as far as they are known; and a note if they are not."""
    task, note = file.task, ""
    if data is not None:
        path = next(path for path in task.paths(data, file.split) if file.form.suits(task.name, path))
        if path.exists():
            return [file.form.key(example) for example in read_file(task, path, file.split).rows], (), ""
        note = f"{path} does not exist, so the rows were compared with the published file's"
    size = file.form.sizes[task.name].get(file.split)
    if size is None:
        return [], (), "the number of rows was not checked: it is not published. --data DATA names the task's files"
    if file.form is LEADERBOARD:  # GLUE numbers the rows of each file
        return [str(row) for row in range(size)], (), note
    return [], (size, size - UNLABELLED.get(task.name, {}).get(file.split, 0)), note


def find_problems(path: Path, file: PredictionFile, expected: list[str], sizes: tuple[int, ...]) -> Iterator[str]:
    """Yield the problems of one file. Raises InputError if it is empty or not UTF-8."""
    lines, (low, high) = list(read_lines(path)), file.form.limits
    pattern = file.form.row_pattern(any_id=bool(expected))
    if path.read_bytes().startswith(codecs.BOM_UTF8):
        yield f"{path}:1: the file starts with a byte order mark"
    if file.header:
        header = lines[0][1]
        if header != file.header:
            yield f"{path}:1: the header is {header[:80]!r} instead of {file.header!r}"
        if not file.form.row_pattern().fullmatch(header):  # else the header is missing: this is a row
            del lines[0]
    keys = {}  # line number -> key
    for number, line in lines:
        row = pattern.fullmatch(line)
        if row is None:
            ids = f" with an id {file.form.id_pattern}" if file.form.id_pattern and not expected else ""
            yield f"{path}:{number}: {line[:80]!r} is not of the form {file.form.row!r}{ids}"
            continue
        keys[number] = row["key"]
        try:
            if not low <= parse_label(file.task, row["value"], path, number) <= high:  # class numbers always are
                yield f"{path}:{number}: score {row['value']} is not between {low:g} and {high:g}"
        except InputError as error:
            yield str(error)
    yield from find_key_problems(path, file, keys, expected)
    if sizes and len(lines) not in sizes:
        yield f"{path} has {len(lines)} rows instead of {sizes[0]}"


def find_key_problems(path: Path, file: PredictionFile, keys: dict[int, str], expected: list[str]) -> Iterator[str]:
    """Yield the rows that are repeated, unknown, missing or out of order. `keys` maps line numbers to keys."""
    if not expected and not file.form.id_pattern:  # any sentence may be there, and more than once
        return
    remaining = Counter(expected or set(keys.values()))
    for number, key in keys.items():
        if not remaining[key]:
            problem = "is repeated" if key in remaining else f"is not in {file.split}"
            yield f"{path}:{number}: example {key[:40]!r} {problem}"
        else:
            remaining[key] -= 1
    missing = [key[:40] for key in remaining.elements()]
    if missing:
        more = ", ..." if missing[3:] else ""
        yield f"{path} lacks {len(missing)} of {len(expected)} examples: {', '.join(missing[:3])}{more}"
    elif file.form.ordered and len(keys) == len(expected):
        misplaced = [(number, key, right) for (number, key), right in zip(keys.items(), expected) if key != right]
        for number, key, right in misplaced[:1]:  # it may only have displaced the others
            yield f"{path}:{number}: {file.split} has {right[:40]!r} here, not {key[:40]!r}"

"""StepLines: a file with one line of JSON for each of some steps, such as log.jsonl; and how it is read again."""

import json
import logging
import math
from pathlib import Path
from typing import Any

from minbert.errors import InputError
from minbert.files import check_regular_file, write_text

logger = logging.getLogger("minbert")


class StepLines:
    """Appends rows to a file, one for every `every` steps at least.

    A resumed run first drops the lines of the steps that it does again. It warns of a gap of more than `every` steps
    before them: lines were deleted, or were not yet on the disk in a power failure.

    Raises InputError if the file of a resumed run cannot be read.
    """

    def __init__(self, path: Path, every: int, resumed: bool):
        self.path, self.every, self.resumed = path, every, resumed
        self.earlier_lines: list[str] = []
        if resumed and path.exists():
            check_regular_file(path)
            try:
                self.earlier_lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            except OSError as error:
                raise InputError(f"{path} cannot be read: {error.strerror}") from None

    def append(self, row: dict) -> None:
        """Append one row. Numbers that are not finite (fp16's gradient norms) become null."""
        if self.resumed:  # the stopped run may have written more steps than its last checkpoint has
            self.resumed = False
            kept = [line for line in self.earlier_lines if is_before(line, row["step"])]
            last = read_row(kept[-1])["step"] if kept else 0
            if last < row["step"] - self.every:
                logger.warning("%s lacks lines between step %d and step %d", self.path, last, row["step"])
            if self.earlier_lines:
                write_text(self.path, "".join(line + "\n" for line in kept))
                self.earlier_lines = []
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(finite(row)) + "\n")


def is_before(line: str, step: int) -> bool:
    """Whether a line is whole and of an earlier step."""
    row = read_row(line)
    return row is not None and isinstance(row.get("step"), int) and row["step"] < step


def finite(value: Any) -> Any:
    """The same value with None in place of each number that is not finite: JSON has no word for these."""
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_log(folder: Path) -> list[dict]:
    """The rows of a run's log.jsonl. A missing file, and lines that are not whole, give nothing."""
    try:
        lines = (folder / "log.jsonl").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [row for line in lines if (row := read_row(line)) is not None]


def read_row(line: str) -> dict | None:
    """The row of a line, or None for anything else. (A run that was killed can leave half a line.)"""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) else None


def is_number(value: object) -> bool:
    """Whether a value is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

"""Reading and writing files: whole or not at all, with one clear line for what is wrong with them."""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from minbert.errors import InputError


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary path)`, then rename: the final name holds the whole file or does not exist."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, values: dict) -> None:
    """Write one JSON object, indented, whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def check_regular_file(path: Path) -> None:
    """Raise InputError for a pipe or a device: reading one can wait for ever. A missing file is no error here."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is not a file but a pipe, a socket or a device")


def read_json_object(path: Path) -> dict:
    """Read the one JSON object in a file. Raises InputError that names the file."""
    check_regular_file(path)
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not JSON, or nested too deeply
        raise InputError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold one JSON object")
    return values


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line. Only a line feed ends a line: texts hold other separators.
    Byte order marks at the start are left out; some programs write two.

    Raises InputError for a file that is empty, not UTF-8, or cannot be read.
    """
    check_regular_file(path)
    number = 0
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                text = line.decode("utf-8").rstrip("\r\n")
                yield number, text.lstrip("\ufeff") if number == 1 else text
    except UnicodeDecodeError:
        raise InputError(f"{path}:{number} is not UTF-8") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    if number == 0:
        raise InputError(f"{path} is empty")

"""Reading and writing files: whole or not at all, with one clear line for what is wrong with them."""

import hashlib
import json
import os
import secrets
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from minbert.errors import InputError, first_line

LONGEST_TEXT = 64 * 1024 * 1024  # of a line, of a field, and of a JSON or TOML file. Each is in memory at once.


def write_file(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary path)`, then rename: the final name holds the whole file or does not exist.

    This holds after a power failure, too. When the call returns, the new content survives one.
    """
    temporary = temporary_path(path)
    try:
        write(temporary)
        rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def temporary_path(final: Path) -> Path:
    """A hidden random name in the same folder. Machines that share a folder can have equal process ids."""
    return final.with_name(f".{final.name}.{secrets.token_hex(4)}")


def rename(temporary: Path, final: Path) -> None:
    """Rename a file, or a folder of files that are on the disk. Returns when the new name is on the disk.

    A system may write the new name to the disk before the content, and then lose power: the name would hold an empty or
    half a file. So the content goes first.
    """
    sync(temporary)
    os.replace(temporary, final)
    sync(final.parent)


def sync(path: Path) -> None:
    """Wait until the content of a file, or the names in a folder, are on the disk."""
    try:
        descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)  # Windows must be able to write
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError:
        if not path.is_dir():  # not every system can do it for a folder
            raise


def make_folders(path: Path) -> None:
    """Make a folder and those above it that are missing. Returns when their names are on the disk."""
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in new:
        sync(folder.parent)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text, whole or not at all."""
    write_file(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_json(path: Path, values: dict) -> None:
    """Write one JSON object, indented, whole or not at all."""
    write_text(path, json.dumps(values, indent=2) + "\n")


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_regular_file(path: Path) -> None:
    """Raise InputError for a pipe or a device: reading one can wait for ever. A missing file is not an error here."""
    if path.exists() and not path.is_file() and not path.is_dir():
        raise InputError(f"{path} is not a file but a pipe, a socket or a device")


def read_text(path: Path) -> str:
    """Read a whole file. Raises InputError for a pipe or more than LONGEST_TEXT, OSError and UnicodeDecodeError."""
    check_regular_file(path)
    with Path(path).open("rb") as file:
        data = file.read(LONGEST_TEXT + 1)
    if len(data) > LONGEST_TEXT:
        raise InputError(f"{path} has more than {LONGEST_TEXT} bytes")
    return data.decode("utf-8")


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError, also for a key that appears twice, and RecursionError."""
    return json.loads(text, object_pairs_hook=unique_keys)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"the key {next(name for name in names if names.count(name) > 1)!r} appears twice")
    return values


def read_json_object(path: Path) -> dict:
    """Read the one JSON object in a file. Raises InputError that names the file."""
    values = read_whole(path, parse_json, "JSON")
    if not isinstance(values, dict):
        raise InputError(f"{path} must hold one JSON object")
    return values


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file. Raises InputError that names the file."""
    return read_whole(path, tomllib.loads, "TOML")


def read_whole(path: Path, parse: Callable[[str], Any], form: str) -> Any:
    """Read a file and parse its text. Raises InputError that names the file."""
    try:
        return parse(read_text(path))
    except InputError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, not of this form, or nested too deeply
        raise InputError(f"{path} is not valid {form}: {first_line(error)}") from None


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the number, from 1, and the text of each line. Only a line feed ends a line: texts hold other separators.
    Byte order marks at the start are left out; some programs write two.

    Raises InputError for a file that is empty, not UTF-8, or cannot be read, or a line longer than LONGEST_TEXT.
    """
    check_regular_file(path)
    try:
        with path.open("rb") as file:
            yield from decode_lines(file, str(path))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from None


def decode_lines(file: BinaryIO, name: str) -> Iterator[tuple[int, str]]:
    """read_lines of an open file. Messages call it `name`."""
    number = 0
    for number, line in enumerate(iter(lambda: file.readline(LONGEST_TEXT + 1), b""), start=1):
        if len(line) > LONGEST_TEXT:
            raise InputError(f"{name}:{number} has more than {LONGEST_TEXT} bytes")
        try:
            text = line.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            raise InputError(f"{name}:{number} is not UTF-8") from None
        yield number, text.lstrip("\ufeff") if number == 1 else text
    if number == 0:
        raise InputError(f"{name} is empty")

"""The fields of the settings: each with its default, the text of --help, and the values that it may take."""

from collections.abc import Sequence
from dataclasses import Field, field
from typing import Any, get_args

from minbert.command_line import flag
from minbert.errors import InputError

LARGEST_COUNT = 2**31  # no number of examples, steps or tokens is as large


def setting(
    default: Any,
    help: str,
    choices: Sequence[str] = (),
    minimum: float | None = None,
    below: float = float("inf"),
    many: bool = False,
    flag: str | None = None,
) -> Any:
    """One field: its default, the text of --help, and the values that it may take.

    Numbers lie from `minimum` up to but not including `below`. `many` fields take several values. `flag` is the flag on
    the command line where it is not the name of the field.
    """
    metadata = {"help": help, "choices": choices, "minimum": minimum, "below": below, "many": many, "flag": flag}
    return field(default=default, metadata=metadata)


def check_range(f: Field, value: Any) -> None:
    """Raise InputError for a number that is outside of its field's range, or not a number."""
    minimum, below = f.metadata["minimum"], f.metadata["below"]
    if value_type(f) is int and below == float("inf"):
        below = LARGEST_COUNT
    if isinstance(value, tuple):
        for item in value:
            check_range(f, item)
        return
    if minimum is None or value is None or minimum <= value < below:
        return
    is_count = below == LARGEST_COUNT and value < minimum  # then only the minimum is of interest
    limit = f" and below {below}" if below < float("inf") and not is_count else ""
    finite = " and finite" if value == float("inf") else ""
    raise InputError(f"{flag_of(f)} must be at least {minimum}{limit}{finite}, not {value}")


def value_type(f: Field) -> Any:
    """The type of one value of a field: int of `int | None`, str of `tuple[str, ...]`, float of both together."""
    kind = f.type
    while get_args(kind):
        kind = get_args(kind)[0]
    return kind


def flag_of(f: Field) -> str:
    return f.metadata["flag"] or flag(f.name)


def format_flag(f: Field, value: Any) -> str:
    """As on the command line: --no-compile, --set a b"""
    if isinstance(value, bool):
        return flag(f.name if value else f"no_{f.name}")
    return f"{flag_of(f)} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"

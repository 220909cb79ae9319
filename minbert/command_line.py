"""What the command lines of the project share: the argument parser, types and flags, and how a small program ends."""

import argparse
import os
import sys
from collections.abc import Callable

from minbert.errors import InputError, did_you_mean

DEVICES = ("auto", "cpu", "cuda", "mps")


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose errors are InputErrors, so that a program prints them as its other one-line errors.

    Flags cannot be abbreviated. An unknown flag is answered with the closest known one.
    """

    def __init__(self, *args, **keywords):
        keywords = {"formatter_class": argparse.RawDescriptionHelpFormatter, "allow_abbrev": False} | keywords
        super().__init__(*args, **keywords)

    def error(self, message):
        raise InputError(message)

    def parse_args(self, args=None, namespace=None):
        known, unknown = self.parse_known_args(args, namespace)
        if unknown:
            hint = did_you_mean(unknown[0], self._option_string_actions)
            raise InputError(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return known

    def add_device_flag(self) -> None:
        self.add_argument("--device", choices=DEVICES, default="auto", help="where to compute")


def at_least(minimum: int) -> Callable[[str], int]:
    """A type for argparse: an integer that is not below the minimum."""

    def integer(text: str) -> int:  # argparse says "invalid integer value" where this raises ValueError
        if int(text) < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, not {text}")
        return int(text)

    return integer


positive = at_least(1)


def escape_unknown_characters() -> None:
    """Print ± as \\xb1 where the terminal's encoding lacks it: a line of text must not end a run with an error."""
    if hasattr(sys.stdout, "reconfigure"):  # None if the program was started with `>&-`
        sys.stdout.reconfigure(errors="backslashreplace")


def run_program(name: str, run: Callable[[], int | None]) -> int:
    """Call run() and return the exit status of a small program: what run() returns, or 0 for None.

    A mistake of the user is one line on stderr, and the status is 2. After Ctrl-C the status is 130. If standard output
    was closed (`| head`), it is 141 (128 + SIGPIPE), the usual status for that.
    """
    escape_unknown_characters()
    try:
        status = run() or 0
        if sys.stdout is not None:  # it is None if the program was started with `>&-`
            sys.stdout.flush()  # here, where a closed output is caught
        return status
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
        return 141
    except KeyboardInterrupt:
        print(f"{name}: interrupted", file=sys.stderr)
        return 130
    except (InputError, OSError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2


def flag(name: str) -> str:
    """The flag of a setting: batch_size -> --batch-size"""
    return "--" + name.replace("_", "-")


def is_utf8(text: str) -> bool:
    """Whether a text can be written as UTF-8. Arguments and JSON can hold halves of characters (surrogates)."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True

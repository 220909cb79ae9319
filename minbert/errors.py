"""The reasons for which a program ends early, each with one line that the user should read."""

import difflib
import signal
from collections.abc import Iterable

MAX_LENGTH = 2000  # characters of a message


class InputError(ValueError):
    """A mistake that the user can correct. The message is one line: what is wrong, where, what to do.

    A program prints it and exits with status 2. Messages quote files, which can hold anything. So the message is made
    one line of printable characters, and cut to a length that can be read.
    """

    def __init__(self, message: str):
        # Escaping can make a text longer, but takes long for a huge one: so it is shortened before and after.
        super().__init__(shorten(escape(shorten(message))))


def shorten(text: str) -> str:
    """Cut the middle out of a long text: its start says where the mistake is, its end says what to do."""
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH // 2]} ... {text[-MAX_LENGTH // 4 :]}"


def escape(text: str) -> str:
    """Write line ends, terminal codes and other unprintable characters as Python does in a string: \\n"""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason(error) -> str:
    """The reason that the system or a library gives, in a few words."""
    return getattr(error, "strerror", None) or first_line(error)


def first_line(error: BaseException) -> str:
    """The first line of a library's error, or the name of its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: "; did you mean smart?", or "" if no known name is close."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


class TrainingError(RuntimeError):
    """Training cannot go on: a loss is not finite. Exit status 1."""


class Interrupted(BaseException):
    """A signal ended the run. Exit status 128 + the number of the signal: 130 for SIGINT, 143 for SIGTERM.

    Like KeyboardInterrupt this is not an Exception: code that catches the errors of a library must not catch it.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number

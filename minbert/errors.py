"""The ways in which a run ends early for a reason that a user should read."""

import signal

LONGEST = 2000  # characters of a message


class InputError(ValueError):
    """A mistake that the user can put right. The message is one line: what is wrong, where, what to do.

    The command line prints it and exits with status 2. Messages quote files, which can hold anything: whatever
    they quote, they stay one line of printable characters, of a length that can be read.
    """

    def __init__(self, message: str):
        super().__init__(shorten(escape(shorten(message))))


def shorten(text: str) -> str:
    """Cut the middle of a long text: where the mistake is stands at the start, what to do at the end."""
    return text if len(text) <= LONGEST else f"{text[: LONGEST // 2]} ... {text[-LONGEST // 4 :]}"


def escape(text: str) -> str:
    """Line ends, terminal codes and all else that does not print -> as Python writes it in a string: \\n"""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def reason(error) -> str:
    """Why the system or a library refused, in a few words."""
    return getattr(error, "strerror", None) or first_line(error)


def first_line(error: BaseException) -> str:
    """What a library's error says first, or else its name."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


class TrainingError(RuntimeError):
    """Training itself broke down (a loss that is not finite). Exit status 1."""


class Interrupted(BaseException):
    """A signal ended the run. Like KeyboardInterrupt no Exception: who catches a library's errors must not catch it.

    Exit status 128 + its number: 130 for SIGINT, 143 for SIGTERM.
    """

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number

"""SIGINT (Ctrl-C), SIGTERM, which a cluster sends before it kills a job, and SIGHUP, when the terminal closes: a
training step is finished first. The same holds if standard output is closed.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from minbert.errors import Interrupted

WATCHED = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]  # not on Windows


def is_for_nohup(number: int) -> bool:
    """Whether nohup told this program to live on when its terminal closes. Then SIGHUP stays ignored."""
    return number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) == signal.SIG_IGN


def silence(stream: TextIO) -> None:
    """What is still written to this closed stream goes nowhere. Without that, Python would fail when it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def write_line(text: str, stream: TextIO | None = None) -> None:
    """Print a line, to standard output if no stream is given. If the stream is closed, the exit status stays right."""
    stream = stream or sys.stdout
    try:
        print(text, file=stream, flush=True)
    except OSError:
        silence(stream)


class Signals:
    """A context in which these signals raise Interrupted: at once, or within `deferred` only where the program asks."""

    def __init__(self):
        self.is_deferred, self.received = False, 0  # received: the number of the signal, 0 for none
        self.previous_handlers = {}

    def __enter__(self) -> "Signals":
        # Python delivers signals to the main thread only. In another thread nothing changes.
        if threading.current_thread() is threading.main_thread():
            self.previous_handlers = {n: signal.signal(n, self.handle) for n in WATCHED if not is_for_nohup(n)}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.previous_handlers.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame: FrameType | None) -> None:
        if not self.is_deferred:
            raise Interrupted(number)
        if number == signal.SIGINT and self.received == signal.SIGINT:  # the second Ctrl-C: do not wait
            raise KeyboardInterrupt
        self.received = number

    def output_closed(self) -> None:
        """Standard output cannot be written to any more (`| head -1`, a closed terminal): stop as after SIGTERM.

        A signal that came before decides the exit status: Ctrl-C also ends the reader of a pipe.
        """
        silence(sys.stdout)
        if not self.received:
            self.handle(signal.SIGTERM, None)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """In the body a signal is only noted. raise_if_received, at a place where stopping is safe, ends the run."""
        self.is_deferred, self.received = True, 0
        try:
            yield
        finally:
            self.is_deferred = False
        self.raise_if_received()

    def raise_if_received(self) -> None:
        if self.received:
            raise Interrupted(self.received)

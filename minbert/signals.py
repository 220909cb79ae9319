"""SIGINT (Ctrl-C) and SIGTERM, which a cluster sends before it kills: a training step is finished first."""

import signal
import threading
from contextlib import contextmanager

from minbert.errors import Interrupted

WATCHED = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """Entered, it turns both signals into Interrupted: at once, or in `patience` at the next `check`."""

    def __init__(self):
        self.patient, self.received = False, 0

    def __enter__(self) -> "Signals":
        # Python hands signals to the main thread only; in another thread everything stays as it was.
        chosen = WATCHED if threading.current_thread() is threading.main_thread() else ()
        self.before = {number: signal.signal(number, self.handle) for number in chosen}
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def handle(self, number: int, frame) -> None:
        if not self.patient:
            raise Interrupted(number)
        if number == self.received == signal.SIGINT:  # Ctrl-C twice: the user does not want to wait
            raise KeyboardInterrupt
        self.received = number

    @contextmanager
    def patience(self):
        """Within, a signal is noted, and whoever is at a good place to stop finds it with `check`."""
        self.patient, self.received = True, 0
        try:
            yield
        finally:
            self.patient = False
        self.check()

    def check(self) -> None:
        if self.received:
            raise Interrupted(self.received)

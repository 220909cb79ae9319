"""The ways in which a run ends early for a reason that a user should read."""

import signal


class InputError(ValueError):
    """A mistake that the user can put right. The message is one line: what is wrong, where, what to do.

    The command line prints it and exits with status 2.
    """


class TrainingError(RuntimeError):
    """Training itself broke down (a loss that is not finite). Exit status 1."""


class Interrupted(Exception):
    """A signal ended the run. Exit status 128 + its number: 130 for SIGINT, 143 for SIGTERM."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.status = 128 + number

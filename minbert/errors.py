"""The two ways in which a run ends early for a reason that a user should read."""


class InputError(ValueError):
    """A mistake that the user can put right. The message is one line: what is wrong, where, what to do.

    The command line prints it and exits with status 2.
    """


class TrainingError(RuntimeError):
    """Training itself broke down (a loss that is not finite). Exit status 1."""

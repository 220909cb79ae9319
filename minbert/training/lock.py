"""FolderLock: one process at a time works on a run folder, and it notices if its folder goes away."""

import errno
import logging
import os
import time
from contextlib import suppress
from functools import cache
from pathlib import Path

from minbert.errors import InputError

logger = logging.getLogger("minbert")

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

NAME = ".lock"
UNSUPPORTED = (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP)  # Lustre without -o flock, NFS without a lock daemon


class FolderLock:
    """The file .lock in a run folder, locked by this process. The system gives the lock back, however the process ends.

    It is a file of its own because an editor that saves settings.json replaces that file, and the lock with it.
    """

    def __init__(self, folder: Path, seconds: float = 1.0):
        """Raises InputError if another process still has the lock after `seconds`; is_locked has it for a moment."""
        self.folder, self.path, end = folder, folder / NAME, time.monotonic() + seconds
        while True:
            self.file = self.path.open("ab")  # for writing: NFS locks no other files
            # The process that had the lock before removes the file when it ends. The file that was opened here then has
            # no name any more, and its lock would keep no other process out.
            if lock(self.file.fileno()) and self.is_ours():
                return
            self.file.close()
            if time.monotonic() > end:
                raise InputError(f"{folder}: another process is at work on this run")
            time.sleep(0.02)

    def is_ours(self) -> bool:
        """Whether the file of that name is the one that this process has locked."""
        try:
            return os.path.samestat(self.path.stat(), os.fstat(self.file.fileno()))
        except OSError:
            return False

    def check(self) -> None:
        """Raise InputError if the folder was removed, renamed or replaced since it was locked."""
        if not self.is_ours():
            raise InputError(f"{self.folder} was removed or renamed while the run was at work: the run has ended")

    def release(self) -> None:
        """Give the lock back, and remove the file."""
        if self.is_ours():
            with suppress(OSError):  # Windows removes no open file
                self.path.unlink()
        self.file.close()


def is_locked(folder: Path) -> bool:
    """Whether a process works on the run in this folder. Always False on Windows."""
    if fcntl is None or not (folder / NAME).exists():
        return False
    with suppress(FileNotFoundError), (folder / NAME).open("rb") as file:
        return not lock(file.fileno(), shared=True)
    return False


def lock(descriptor: int, shared: bool = False) -> bool:
    """Lock an open file for this process, or with `shared` for all who only look. False if another process has it."""
    if fcntl is not None:
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in UNSUPPORTED:
                raise
            warn_of_no_locks()
    return True


@cache
def warn_of_no_locks() -> None:
    """Once for each process."""
    logger.warning("this file system has no locks: two processes on one run folder would not notice each other")

"""Checkpoints: what a run needs to go on where it stopped, in one safetensors file with JSON in its header."""

import json
import logging
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from minbert.errors import InputError, first_line, reason
from minbert.files import make_folders, rename, sha256
from minbert.training.state import TrainingState
from minbert.training.state_check import check_tensors, check_values

logger = logging.getLogger("minbert")
FILE_NAME = re.compile(r"(\d+)-step(\d+)-[0-9a-f]{64}\.safetensors")
NEW = ".new"  # no reader looks at this name, so a kill while the file is written harms nothing
KEPT = 2  # if the last file turns out to be damaged, the one before it is used


class Checkpoints:
    """A folder with the last two states of a run, each in a file that is named after its checksum:
    000007-step120-<SHA-256>.safetensors.

    A checkpoint is due after `steps` steps or `minutes` minutes, whichever comes first. All ranks load; only the
    `active` one writes. `before_writing` raises InputError if nothing may be written any more.
    """

    def __init__(
        self,
        folder: Path,
        steps: int | None = None,
        minutes: float | None = None,
        active: bool = True,
        before_writing: Callable[[], None] = lambda: None,
    ):
        self.folder, self.steps, self.minutes, self.active = folder, steps, minutes, active
        self.before_writing = before_writing
        self.last_step, self.last_time = 0, time.monotonic()
        self.damaged: list[Path] = []
        self.unusable: Path | None = None  # what must be deleted before the run can go on

    def is_due(self, step: int) -> bool:
        """Whether enough steps or minutes have passed since the last checkpoint."""
        if self.steps is not None and step - self.last_step >= self.steps:
            return True
        return self.minutes is not None and time.monotonic() - self.last_time >= 60 * self.minutes

    def save(self, state: TrainingState) -> None:
        """Write a state, and remove all but the last two.

        Raises InputError if the file cannot be written; the earlier checkpoints stay.
        """
        step = state.loop.step
        if self.active:
            self.write(step, state.tensors(), json.dumps(state.values()))
        self.last_step, self.last_time = step, time.monotonic()

    def write(self, step: int, tensors: dict[str, Tensor], values: str) -> None:
        self.before_writing()
        # The files are numbered, because a resumed run can write the same step again.
        number = 1 + max((number_of(path) for path in self.files()), default=0)
        temporary = self.folder / NEW
        try:
            make_folders(self.folder)
            tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(tensors, temporary, metadata={"values": values})
            # The rename happens completely or not at all, also if the power fails. The checksum in the name finds
            # blocks that were changed later, or that a disk lost although it had reported them as written.
            rename(temporary, self.folder / f"{number:06}-step{step}-{sha256(temporary)}.safetensors")
        except (OSError, SafetensorError) as error:
            failed = f"the checkpoint of step {step} cannot be written to {self.folder}"
            raise InputError(f"{failed}: {reason(error)}") from None
        # Delete the old files only now, with the new one in place.
        whole = [path for path in self.files() if path not in self.damaged]
        for path in [*self.damaged, *whole[:-KEPT]]:
            path.unlink()
        self.damaged = []

    def files(self) -> list[Path]:
        """The checkpoint files, oldest first."""
        paths = self.folder.iterdir() if self.folder.exists() else ()
        return sorted((path for path in paths if FILE_NAME.fullmatch(path.name) and path.is_file()), key=number_of)

    def load_last(self, state: TrainingState) -> bool:
        """Put the last undamaged checkpoint into `state`. False if there was never one.

        Raises InputError if all are damaged, or if it is of another model, method or length of the run.
        """
        # All ranks read the same file: they share the folder, and DDP would not broadcast the optimizers.
        files, total_steps = self.files(), state.loop.total_steps
        path = next((path for path in reversed(files) if self.is_whole(path)), None)
        if path is None:
            if files:
                self.unusable = self.folder
                raise InputError(
                    f"{self.folder}: all checkpoints are damaged; delete this folder, and --resume starts from the "
                    "beginning"
                )
            return False
        try:
            tensors, values = read_checkpoint(path)
            check_values(state, values)
            check_tensors(state, tensors, values)
        except (SafetensorError, ValueError, TypeError, KeyError, RecursionError) as error:
            self.unusable = path
            raise InputError(f"{path} is of another model or method, or was changed: {first_line(error)}") from None
        state.load(tensors, values)
        # With another number of steps the learning rate and the batches of the rest would be those of another run.
        if state.loop.total_steps != total_steps:
            raise InputError(
                f"the run was planned with {state.loop.total_steps} steps, now it has {total_steps}: "
                "its data have changed"
            )
        self.last_step = state.loop.step
        logger.warning("going on after step %d", self.last_step)
        return True

    def is_whole(self, path: Path) -> bool:
        """Whether a file still has the checksum in its name. A damaged file is removed when the next one is written."""
        if path.stem.endswith(sha256(path)):
            return True
        logger.warning("%s is damaged: its checksum differs", path)
        self.damaged.append(path)
        return False

    def remove(self) -> None:
        """Delete the folder: the run is complete."""
        if self.active:
            shutil.rmtree(self.folder, ignore_errors=True)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], Any]:
    """Raises SafetensorError, ValueError, TypeError, KeyError or RecursionError for a file of another form."""
    with safe_open(path, "pt") as file:
        values = json.loads(file.metadata()["values"])
    # load_file maps the file. The optimizer keeps these tensors, and later the file is deleted, which Windows refuses
    # for a mapped file.
    return {name: tensor.clone() for name, tensor in load_file(path).items()}, values


def number_of(path: Path) -> int:
    return int(FILE_NAME.fullmatch(path.name)[1])


def step_of(path: Path) -> int:
    return int(FILE_NAME.fullmatch(path.name)[2])


def read_history(folder: Path) -> list[dict]:
    """The scores of each epoch so far, from the last checkpoint in this folder. [] if there is none that can be read.

    Another process may be at work on the run, and may remove the file or the folder meanwhile.
    """
    try:
        files = Checkpoints(folder).files()
    except OSError:
        return []
    for path in reversed(files):
        try:
            with safe_open(path, "pt") as file:
                return list(json.loads(file.metadata()["values"])["loop"]["history"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError, RecursionError):
            continue
    return []

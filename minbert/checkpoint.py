"""What a run needs to go on where it stopped: one safetensors file, with the rest as JSON in its header."""

import hashlib
import json
import logging
import re
import shutil
import time
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from minbert.errors import InputError, reason
from minbert.weights import plain_name

logger = logging.getLogger("minbert")
NAME = re.compile(r"(\d+)-step(\d+)-[0-9a-f]{64}\.safetensors")
KEPT = 2  # should the last file turn out damaged, there is the one before


class Checkpoint:
    """A folder with the last two states of a run, each in a file named after its checksum:
    000007-step120-<SHA-256>.safetensors.

    A state is due every so many steps or minutes, whichever comes first. No folder (None): nothing is kept.
    Of several processes all load, and only the `active` one writes.
    """

    def __init__(self, folder: Path | None, steps: int | None = None, minutes: float | None = None, active=True):
        self.folder, self.steps, self.minutes, self.active = folder, steps, minutes, active
        self.last_step, self.last_time = 0, time.monotonic()
        self.damaged: list[Path] = []

    def is_due(self, step: int) -> bool:
        if self.folder is None:
            return False
        by_step = self.steps is not None and step - self.last_step >= self.steps
        return by_step or (self.minutes is not None and time.monotonic() - self.last_time >= 60 * self.minutes)

    def save(self, step: int, objective: nn.Module, optimizers: list[torch.optim.Optimizer], progress: dict) -> None:
        """Keep all that training changes; `progress` is plain JSON.

        Raises InputError where the file cannot be written; the states kept before stay.
        """
        if self.folder is not None and self.active:
            states = [optimizer.state_dict()["state"] for optimizer in optimizers]
            tensors = {f"objective.{plain_name(name)}": tensor for name, tensor in objective.state_dict().items()}
            tensors |= {f"optimizer.{n}.{i}.{k}": v for n, s in enumerate(states) for i, k, v in entries(s, Tensor)}
            numbers = [[n, i, k, v] for n, s in enumerate(states) for i, k, v in entries(s, int)]
            self.write(step, tensors, json.dumps(progress | {"step": step, "numbers": numbers}))
        self.last_step, self.last_time = step, time.monotonic()

    def write(self, step: int, tensors: dict[str, Tensor], progress: str) -> None:
        before = self.files()
        number = 1 + max(map(number_of, before), default=0)
        temporary = self.folder / ".new"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
            save_file(plain, temporary, metadata={"progress": progress})
            # Under this name only a whole file ever stands: a rename is done or not done.
            temporary.rename(self.folder / f"{number:06}-step{step}-{digest(temporary)}.safetensors")
        except (OSError, SafetensorError) as error:
            where = f"the checkpoint of step {step} cannot be written to {self.folder}"
            raise InputError(f"{where}: {reason(error)}") from None
        whole = [path for path in self.files() if path not in self.damaged]
        for path in [*self.damaged, *whole[:-KEPT]]:
            path.unlink()
        self.damaged = []

    def files(self) -> list[Path]:
        """Oldest first."""
        found = self.folder.iterdir() if self.folder.exists() else ()
        return sorted((path for path in found if NAME.fullmatch(path.name) and path.is_file()), key=number_of)

    def load(self, objective: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict | None:
        """Put the last undamaged state back and return its `progress`, or None where none was kept.

        Raises InputError where all are damaged, or where the state is that of another model or method.
        """
        files = self.files() if self.folder is not None else []
        whole = next((path for path in reversed(files) if self.is_whole(path)), None)
        if whole is None:
            if files:
                raise InputError(f"{self.folder}: no checkpoint is undamaged; delete the folder to start anew")
            return None
        with safe_open(whole, "pt") as file:
            progress = json.loads(file.metadata()["progress"])
        try:
            self.restore(load_file(whole), progress.pop("numbers"), objective, optimizers)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"{whole} is of another model or method: {str(error).splitlines()[0]}") from None
        self.last_step = progress["step"]
        logger.warning("going on after step %d", self.last_step)
        return progress

    def is_whole(self, path: Path) -> bool:
        """Whether the file still has the checksum in its name. If not, it goes when the next is written."""
        if path.stem.endswith(digest(path)):
            return True
        logger.warning("%s is damaged (its checksum differs) and passed over", path)
        self.damaged.append(path)
        return False

    @staticmethod
    def restore(tensors: dict[str, Tensor], numbers: list, objective: nn.Module, optimizers: list) -> None:
        states, own = [{} for _ in optimizers], {}
        ours = {plain_name(name): name for name in objective.state_dict()}
        for name, tensor in tensors.items():
            if name.startswith("objective."):
                name = name.removeprefix("objective.")
                own[ours.get(name, name)] = tensor
            else:
                _, number, index, key = name.split(".", 3)
                states[int(number)].setdefault(int(index), {})[key] = tensor
        objective.load_state_dict(own)
        for number, index, key, value in numbers:
            states[number].setdefault(index, {})[key] = value
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})

    def remove(self) -> None:
        if self.folder is not None and self.active:
            shutil.rmtree(self.folder, ignore_errors=True)


def entries(state: dict, kind: type):
    """(parameter's index, name, value) of all values of that kind in an optimizer's state."""
    return [(i, key, value) for i, slots in state.items() for key, value in slots.items() if isinstance(value, kind)]


def number_of(path: Path) -> int:
    return int(NAME.fullmatch(path.name)[1])


def step_of(path: Path) -> int:
    return int(NAME.fullmatch(path.name)[2])


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

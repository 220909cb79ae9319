"""What a run needs to go on where it stopped: safetensors and JSON. Resuming from train.py is still to come."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


class Checkpoint:
    """A folder that holds the last complete state of a run. No folder (None): nothing is kept."""

    def __init__(self, folder: Path | None):
        self.folder = folder

    def save(self, objective: nn.Module, optimizers: list[torch.optim.Optimizer], progress: dict) -> None:
        """Keep all that training changes; `progress` is plain JSON."""
        if self.folder is None:
            return
        states = [optimizer.state_dict()["state"] for optimizer in optimizers]
        tensors = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
        tensors |= {f"optimizer.{n}.{i}.{k}": v for n, s in enumerate(states) for i, k, v in entries(s, Tensor)}
        numbers = [[n, i, k, v] for n, s in enumerate(states) for i, k, v in entries(s, int)]
        temporary, old = (self.folder.with_name(f".{self.folder.name}.{word}") for word in ("new", "old"))
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        save_file({n: t.detach().cpu().contiguous() for n, t in tensors.items()}, temporary / "state.safetensors")
        text = json.dumps(progress | {"numbers": numbers})
        (temporary / "progress.json").write_text(text, encoding="utf-8")
        if self.folder.exists():
            self.folder.rename(old)
        temporary.rename(self.folder)
        shutil.rmtree(old, ignore_errors=True)

    def load(self, objective: nn.Module, optimizers: list[torch.optim.Optimizer]) -> dict | None:
        """Put the kept state back and return its `progress`, or None where nothing is kept."""
        if self.folder is None or not self.folder.exists():
            return None
        tensors = load_file(self.folder / "state.safetensors")
        progress = json.loads((self.folder / "progress.json").read_text(encoding="utf-8"))
        own = {name: t for name, t in tensors.items() if name.startswith("objective.")}
        objective.load_state_dict({name.removeprefix("objective."): t for name, t in own.items()})
        states = [{} for _ in optimizers]
        for name, tensor in tensors.items():
            if name.startswith("optimizer."):
                _, number, index, key = name.split(".", 3)
                states[int(number)].setdefault(int(index), {})[key] = tensor
        for number, index, key, value in progress.pop("numbers"):
            states[number].setdefault(index, {})[key] = value
        for optimizer, state in zip(optimizers, states, strict=True):
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        return progress

    def remove(self) -> None:
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)


def entries(state: dict, kind: type):
    """(parameter's index, name, value) of all values of that kind in an optimizer's state."""
    return [(i, key, value) for i, slots in state.items() for key, value in slots.items() if isinstance(value, kind)]

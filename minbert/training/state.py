"""What training changes, and so what a checkpoint holds: the position of the loop, and every tensor and number."""

from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from minbert.published import plain_name
from minbert.training.log import LogState, TrainingLog


def first_names(module: nn.Module) -> dict[str, str]:
    """Each name in the state_dict -> the first name of the same tensor. (ALBERT's layers share their parameters.)"""
    first: dict[int, str] = {}
    return {name: first.setdefault(id(p), name) for name, p in module.state_dict(keep_vars=True).items()}


def own_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The state_dict, without the second names of tensors that have several."""
    names = first_names(module)
    return {name: tensor for name, tensor in module.state_dict().items() if names[name] == name}


def load_own_tensors(module: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Load what own_tensors gave. Raises RuntimeError if a tensor is missing or does not fit."""
    second_names = {name: first for name, first in first_names(module).items() if name != first and first in tensors}
    module.load_state_dict(tensors | {name: tensors[first] for name, first in second_names.items()})


class BestWeights:
    """A copy of the model after the epoch with the highest dev score; the first of equal scores. It is on the CPU."""

    def __init__(self):
        self.score = float("-inf")
        self.weights: dict[str, Tensor] = {}

    def update(self, model: nn.Module, score: float) -> None:
        """An epoch has ended with this dev score."""
        if score > self.score:
            self.score = score
            self.weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in own_tensors(model).items()}

    def load_into(self, model: nn.Module) -> None:
        """Put the best weights back into the model."""
        if self.weights:
            load_own_tensors(model, self.weights)


def best_epoch(history: list[dict]) -> dict:
    """The entry of the epoch with the best dev score, the first of equals: the epoch that BestWeights keeps."""
    return max(history, key=lambda epoch: epoch["dev"]["score"])


@dataclass
class LoopState:
    """The position of the loop: steps done, the epoch under way, the scores of the epochs before."""

    total_steps: int
    step: int = 0  # optimizer steps done
    epoch: int = 1
    step_in_epoch: int = 0  # steps done in this epoch
    history: list[dict] = field(default_factory=list)

    def is_running(self) -> bool:
        """Whether steps are left. An epoch whose steps are done, but not yet scored, is still running."""
        return self.step < self.total_steps or self.step_in_epoch > 0

    def end_epoch(self, scores: dict) -> None:
        self.history.append({"epoch": self.epoch, **scores})
        self.epoch, self.step_in_epoch = self.epoch + 1, 0


@dataclass
class TrainingState:
    """Everything that training changes: tensors and plain JSON values. `load` restores it to the last bit."""

    objective: nn.Module
    optimizers: list[torch.optim.Optimizer]  # the main one, then those of the method
    scaler: torch.amp.GradScaler
    best: BestWeights
    log: TrainingLog
    loop: LoopState

    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor. Optimizer states are optimizer.<number of the optimizer>.<of the parameter>.<name>."""
        tensors = {f"objective.{plain_name(name)}": tensor for name, tensor in own_tensors(self.objective).items()}
        tensors |= {f"best.{name}": tensor for name, tensor in self.best.weights.items()}
        for number, index, name, value in self.optimizer_values():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{number}.{index}.{name}"] = value
        return tensors

    def values(self) -> dict[str, Any]:
        """The rest, as plain JSON. Call log.fetch() before: the losses of pending steps are not part of it."""
        # AdamW counts its steps in plain integers, and JSON keeps them exactly.
        numbers = [entry for entry in self.optimizer_values() if isinstance(entry[3], int)]
        return {
            "loop": asdict(self.loop),
            "log": asdict(self.log.state),
            "scaler": self.scaler.state_dict(),
            "best_score": self.best.score if self.best.weights else None,
            "optimizer_numbers": numbers,
        }

    def optimizer_values(self) -> list[tuple[int, int, str, Any]]:
        """(number of the optimizer, number of the parameter, name, value) of all values in optimizer states."""
        return [
            (number, index, name, value)
            for number, optimizer in enumerate(self.optimizers)
            for index, slots in optimizer.state_dict()["state"].items()
            for name, value in slots.items()
        ]

    def load(self, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
        """Put a saved state back, which state_check.py has found to be one of this run."""
        # Under "objective." the file names parameters as a plain model does. In the model a wrapper adds ".base" to the
        # name. (Under "best." they have the model's own names.)
        names = {plain_name(name): name for name in own_tensors(self.objective)}
        parameters: dict[str, Tensor] = {}
        states: list[dict[int, dict[str, Any]]] = [{} for _ in self.optimizers]
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "objective":
                parameters[names.get(rest, rest)] = tensor
            elif kind == "best":
                self.best.weights[rest] = tensor
            else:
                number, index, slot = rest.split(".", 2)
                states[int(number)].setdefault(int(index), {})[slot] = tensor
        for number, index, slot, value in values["optimizer_numbers"]:
            states[number].setdefault(index, {})[slot] = value
        load_own_tensors(self.objective, parameters)
        for optimizer, state in zip(self.optimizers, states, strict=True):
            # The groups, with their settings, come from this run; only the state of the parameters was saved.
            optimizer.load_state_dict(optimizer.state_dict() | {"state": state})
        if self.best.weights:
            self.best.score = values["best_score"]
        self.scaler.load_state_dict(values["scaler"])
        self.loop = LoopState(**values["loop"])
        self.log.state = LogState(**values["log"])

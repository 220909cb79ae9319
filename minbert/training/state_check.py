"""Whether what a checkpoint holds is a state of this run: names, shapes and types, before any of it is loaded.

A checkpoint with the right checksum can still be wrong: of another method, of another version, or changed by hand.
"""

import types
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_origin

import torch
from torch import Tensor, nn

from minbert.published import plain_name
from minbert.training.log import LogState
from minbert.training.state import LoopState, TrainingState, own_tensors

VALUES = {
    "loop": LoopState,
    "log": LogState,
    "scaler": dict[str, float],
    "best_score": float | None,
    "optimizer_numbers": list[tuple[int, int, str, int]],  # optimizer, parameter, name, value
}
SCORES = {"metrics": dict[str, float], "majority": dict[str, float], "failed": bool, "failure": str}


def check_values(state: TrainingState, values: Any) -> None:
    """Raise ValueError if the numbers are not those of a run like this one."""
    check_keys(values, VALUES, "the state")
    for name, kind in VALUES.items():
        check_type(values[name], kind, name)
    loop, log = values["loop"], values["log"]
    if loop["step"] > loop["total_steps"] or loop["step_in_epoch"] > loop["step"]:
        raise ValueError(f"loop: step {loop['step']}, {loop['step_in_epoch']} in the epoch, of {loop['total_steps']}")
    if [entry.get("epoch") for entry in loop["history"]] != list(range(1, loop["epoch"])):
        raise ValueError(f"loop.history has not one entry for each epoch before epoch {loop['epoch']}")
    for entry in loop["history"]:
        check_keys(entry, loop["history"][0], "loop.history")
        if "dev" in entry:
            check_scores(entry["dev"], "loop.history: dev")
    tasks = state.log.state.steps_of_task.keys()
    check_keys(log["steps_of_task"], tasks, "log.steps_of_task")
    for name in (*log["epoch_losses"], *(task for task, _ in log["unlogged"])):
        if name not in tasks:
            raise ValueError(f"log: {name!r} is not a task of this run")
    check_keys(values["scaler"], state.scaler.state_dict(), "scaler")


def check_scores(scores: Any, place: str) -> None:
    """Check the scores of an epoch, or of one task in it."""
    check_type(scores, dict, place)
    check_type(scores.get("score"), float, f"{place}.score")
    if len(scores) > 1:  # pretraining has a score alone
        for name, kind in SCORES.items():
            check_type(scores.get(name), kind, f"{place}.{name}")
    tasks = scores.get("tasks", {})
    check_type(tasks, dict, f"{place}.tasks")
    for task, its_scores in tasks.items():
        check_scores(its_scores, f"{place}.tasks.{task}")


def check_keys(values: Any, expected, place: str) -> None:
    if not isinstance(values, dict) or values.keys() != set(expected):
        found = ", ".join(values) if isinstance(values, dict) else repr(values)[:40]
        raise ValueError(f"{place} has {found or 'nothing'} instead of {', '.join(expected) or 'nothing'}")


def check_type(value: Any, kind: Any, place: str) -> None:
    """Raise ValueError if a JSON value is not of a type. Whole numbers are counts, so they are not negative."""
    origin, inner = get_origin(kind), get_args(kind)
    if is_dataclass(kind):
        check_keys(value, [f.name for f in fields(kind)], place)
        for f in fields(kind):
            check_type(value[f.name], f.type, f"{place}.{f.name}")
        return
    if origin is types.UnionType:
        if value is not None:
            check_type(value, inner[0], place)
        return
    plain = {int: int, float: int | float, str: str, bool: bool, dict: dict, list: list, tuple: list}[origin or kind]
    is_right = isinstance(value, plain) and (kind is bool) == isinstance(value, bool)
    if origin is tuple:
        is_right = is_right and len(value) == len(inner)
    if not is_right or (kind is int and value < 0):
        raise ValueError(f"{place} is {repr(value)[:40]}")
    if origin is list:
        for item in value:
            check_type(item, inner[0], place)
    elif origin is tuple:
        for item, its_kind in zip(value, inner):
            check_type(item, its_kind, place)
    elif origin is dict:
        for name, item in value.items():
            check_type(item, inner[1], f"{place}.{name}")


def check_tensors(state: TrainingState, tensors: dict[str, Tensor], values: dict[str, Any]) -> None:
    """Raise ValueError if the tensors are not those of this model, this method and their optimizers."""
    parts: dict[str, dict[str, Tensor]] = {"objective": {}, "best": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        if part not in parts:
            raise ValueError(f"{name} is unknown")
        parts[part][rest] = tensor
    expected = {plain_name(name): tensor for name, tensor in own_tensors(state.objective).items()}
    compare(parts["objective"], expected, "objective")
    if parts["best"] or values["best_score"] is not None:
        compare(parts["best"], own_tensors(state.objective.model), "best")
        check_type(values["best_score"], float, "best_score")
    found: dict[str, Any] = dict(parts["optimizer"])
    found |= {f"{number}.{index}.{slot}": value for number, index, slot, value in values["optimizer_numbers"]}
    compare(found, expected_slots(state.optimizers, found), "optimizer")


def compare(found: dict[str, Any], expected: dict[str, Any], part: str) -> None:
    for name in found.keys() ^ expected.keys():
        raise ValueError(f"{part}.{name} is {'unexpected' if name in found else 'missing'}")
    for name, value in expected.items():
        if describe(found[name]) != describe(value):
            raise ValueError(f"{part}.{name} is {describe(found[name])}, not {describe(value)}")


def describe(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} {list(value.shape)}"
    return type(value).__name__


def expected_slots(optimizers: list[torch.optim.Optimizer], found: dict[str, Any]) -> dict[str, Any]:
    """<optimizer>.<parameter>.<slot> -> a value of the right type, for all parameters of which any slot was found.

    (A parameter that never had a gradient has no state.)
    """
    present = {tuple(name.split(".")[:2]) for name in found}
    expected: dict[str, Any] = {}
    for number, optimizer in enumerate(optimizers):
        example, state = first_state(optimizer)
        for index, p in enumerate(p for group in optimizer.param_groups for p in group["params"]):
            if (str(number), str(index)) in present:
                for slot, value in state.items():
                    like_parameter = isinstance(value, Tensor) and value.shape == example.shape
                    expected[f"{number}.{index}.{slot}"] = p if like_parameter else value
    return expected


def first_state(optimizer: torch.optim.Optimizer) -> tuple[Tensor, dict[str, Any]]:
    """An example of a parameter, and what such an optimizer keeps of it after one step."""
    example = nn.Parameter(torch.zeros(2, 3))
    example.grad = torch.zeros(2, 3)
    other = type(optimizer)([example], **optimizer.defaults)
    other.step()
    return example, other.state[example]

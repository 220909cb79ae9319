"""Finds operations that mix devices or wait for the device, on a machine without a GPU.

On the "meta" device tensors have shapes and no values. So the code takes the branches of a GPU, an operation between it
and the CPU is a mistake, and reading a value (.item(), .tolist(), a boolean index) raises an error: on a GPU it would
wait. Torch itself checks elementwise operations alone: mm and embedding pass in silence, and indexing with a tensor
on the CPU is allowed but waits. Hence this dispatch mode.
"""

from contextlib import nullcontext

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minbert.training import loop
from minbert.training.log import LogState
from minbert.training.runtime import Runtime

META = Runtime(torch.device("meta"))
COPIES = {"_to_copy", "copy_"}  # these are there to bring a tensor to a device


class OneDevice(TorchDispatchMode):
    """Raises RuntimeError for an operation with tensors on two devices. A number on the CPU may meet any tensor."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        tensors = [value for value in tree_leaves((args, kwargs or {})) if isinstance(value, Tensor)]
        name = operation._schema.name.removeprefix("aten::")
        devices = {tensor.device.type for tensor in tensors if tensor.dim() or tensor.device.type != "cpu"}
        if len(devices) > 1 and name not in COPIES:
            raise RuntimeError(f"{name} mixes devices: {[(str(t.device), tuple(t.shape)) for t in tensors]}")
        return operation(*args, **(kwargs or {}))


class NoLog:
    """Stands in for TrainingLog, which reads losses from the device."""

    def __init__(self, *_):
        self.state = LogState()

    def ignore(self, *_) -> None:
        pass

    add = write = fetch = start_clock = ignore

    def totals(self) -> dict:
        return {}


def allow_meta(monkeypatch) -> None:
    """Let the whole loop run on the meta device: nothing is logged, and autocast, which does not know it, is off."""
    autocast = torch.autocast
    monkeypatch.setattr(loop, "TrainingLog", NoLog)
    monkeypatch.setattr(
        torch,
        "autocast",
        lambda device_type, *args, **kwargs: (
            nullcontext() if device_type == "meta" else autocast(device_type, *args, **kwargs)
        ),
    )

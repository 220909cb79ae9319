"""Finds operations that mix devices or wait for the device, on a machine without a GPU.

On the "meta" device tensors have shapes and no values. So attention, dropout and AdamW take the branches of a GPU, an
operation between it and the CPU is a mistake, and reading a value (.item(), .tolist(), a boolean index) raises an
error: on a GPU it would wait. Torch itself checks only elementwise operations: mm and embedding pass in silence, and
indexing with a tensor on the CPU is allowed but waits. Hence OneDevice. A step must not copy from the CPU either, since
such a copy waits, unless it begins in pinned memory as that of a Batch does. Hence NoCopies.
"""

from contextlib import contextmanager, nullcontext

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from minbert.task import Batch
from minbert.training import loop
from minbert.training.log import LogState
from minbert.training.runtime import Runtime

META = Runtime(torch.device("meta"))


class OneDevice(TorchDispatchMode):
    """Raises RuntimeError for an operation with tensors on two devices. A number on the CPU may meet any tensor."""

    batch_is_copied = False  # the only copy from one device to another that is allowed

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        tensors = [value for value in tree_leaves((args, kwargs or {})) if isinstance(value, Tensor)]
        name = operation._schema.name.removeprefix("aten::")
        devices = {tensor.device.type for tensor in tensors if tensor.dim() or tensor.device.type != "cpu"}
        if name == "_to_copy" and not OneDevice.batch_is_copied and (kwargs or {}).get("device"):
            devices.add(torch.device(kwargs["device"]).type)
        if len(devices) > 1:
            raise RuntimeError(f"{name} mixes devices: {[(str(t.device), tuple(t.shape)) for t in tensors]}")
        return operation(*args, **(kwargs or {}))


class NoCopies(TorchFunctionMode):
    """Raises RuntimeError for two copies to the device that a dispatch mode does not see."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        device = torch.device((kwargs or {}).get("device") or "cpu")
        if function in (torch.tensor, torch.as_tensor) and device.type != "cpu":
            raise RuntimeError(f"torch.{function.__name__} copies numbers to the device: make them there (torch.full)")
        if function is Tensor.__getitem__ and args[0].device.type != "cpu" and holds_list(args[1]):
            raise RuntimeError("an index that is a list is copied to the device: keep it there as a buffer")
        return function(*args, **(kwargs or {}))


def holds_list(index) -> bool:
    return isinstance(index, list) or (isinstance(index, tuple) and any(isinstance(part, list) for part in index))


@contextmanager
def one_device():
    """Check the body with both modes."""
    with OneDevice(), NoCopies():
        yield


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
    to = Batch.to

    def copy_batch(self, device):
        OneDevice.batch_is_copied = True
        try:
            return to(self, device)
        finally:
            OneDevice.batch_is_copied = False

    monkeypatch.setattr(Batch, "to", copy_batch)

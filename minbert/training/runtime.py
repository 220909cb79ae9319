"""Device, precision and the processes of a run. All of it is applied from outside: the model knows nothing of it."""

import ctypes
import importlib
import inspect
import os
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minbert.errors import InputError
from minbert.training.signals import Signals

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """One process of a run. What is off is a null object (nullcontext, a disabled scaler): the loop needs no `if`."""

    device: torch.device
    precision: str = "fp32"  # fp32, bf16 or fp16
    rank: int = 0  # the number of this process
    world_size: int = 1  # the number of processes
    signals: Signals = field(default_factory=Signals)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def is_distributed(self) -> bool:
        return self.world_size > 1

    def describe(self) -> str:
        """cpu in bf16; cuda:0 in fp32 (TF32), 2 processes"""
        tf32 = self.device.type == "cuda" and self.precision == "fp32" and multiplies_in_tf32()
        processes = f", {self.world_size} processes" if self.is_distributed else ""
        return f"{self.device} in {self.precision}" + (" (TF32)" if tf32 else "") + processes

    def autocast(self) -> AbstractContextManager:
        """A context for forward passes: matrix products in the run's precision. Weights and gradients stay float32."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.precision])

    def scaler(self) -> torch.amp.GradScaler:
        """fp16 needs its loss scaled, or small gradients would become 0. In other precisions this does nothing."""
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def wrap(self, objective: nn.Module, some_unused: bool) -> nn.Module:
        """Put DistributedDataParallel (DDP) around the whole objective.

        It must not go around the model: the second pass of a method would mark each parameter ready twice, which DDP
        refuses. `some_unused`: a step uses the head of one task only, and DDP must look for the unused parameters.
        """
        if not self.is_distributed:
            return objective
        # Buffers are equal on all ranks. Mixout's are as large as the weights, and would be sent in every step.
        parameters = inspect.signature(DistributedDataParallel).parameters
        name = "forward_sync_buffers" if "forward_sync_buffers" in parameters else "broadcast_buffers"  # torch < 2.13
        return DistributedDataParallel(objective, find_unused_parameters=some_unused, **{name: False})

    def average_gradients_if(self, last: bool, objective: nn.Module) -> AbstractContextManager:
        """A context for one micro-batch. Only the last one of a step averages the gradients over the ranks."""
        return nullcontext() if last or not self.is_distributed else objective.no_sync()

    def sum_over_ranks(self, tensor: Tensor) -> Tensor:
        """Replace the tensor on every rank by its sum over the ranks, and return it."""
        if self.is_distributed:
            dist.all_reduce(tensor)
        return tensor

    def max_over_ranks(self, number: int) -> int:
        """The largest of the numbers that the ranks give. All ranks have to call it."""
        if not self.is_distributed:
            return number
        tensor = torch.tensor(number, device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def synchronize(self) -> None:
        """Wait until the device has finished. A clock is read only after that."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def peak_memory(self) -> int:
        """The peak in bytes: of this run's tensors on the GPU, or of the process in RAM; 0 if the system does not tell.

        A process that makes several runs (study/) has one peak in RAM, that of its largest run so far.
        """
        if self.device.type == "cuda":
            return torch.cuda.max_memory_allocated(self.device)
        try:
            import resource
        except ImportError:  # Windows
            return 0
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024  # kilobytes elsewhere

    def __enter__(self) -> "Runtime":
        self.signals.__enter__()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        return self

    def __exit__(self, kind=None, *_) -> None:
        self.signals.__exit__()
        if self.is_distributed:
            if kind is None:  # Wait for all ranks: leaving early would crash a rank that is still in a collective.
                with suppress(RuntimeError):  # another rank failed, and reports its own error
                    dist.barrier()
            dist.destroy_process_group()


def setup(device: str = "auto", precision: str = "auto", needs_fp32: bool = False) -> Runtime:
    """Choose device and precision, and join the other processes if torchrun started this one.

    `needs_fp32`: the method perturbs its input by less than bf16 resolves.

    Raises InputError for a device or a precision that this machine does not have, or that the method does not allow.
    """
    rank, world_size, local_rank = processes_of_torchrun()
    chosen = choose_device(device)
    if chosen.type == "cuda":
        # torchrun numbers the processes of each machine from 0: one GPU for each process.
        chosen = torch.device("cuda", local_rank)
        if chosen.index >= torch.cuda.device_count():
            raise InputError(
                f"torchrun started more processes than the {torch.cuda.device_count()} GPUs of this machine"
            )
        torch.cuda.set_device(chosen)
    else:
        keep_freed_memory()
    precision = choose_precision(precision, chosen, needs_fp32)
    set_backends(chosen, needs_fp32)
    # NCCL moves tensors between GPUs, gloo between CPUs. Both are told the addresses by torchrun's variables.
    if world_size > 1 and not dist.is_initialized():
        # DDP imports this module, whose functions keep the group of the moment as a default argument. If there is one
        # by then, destroy_process_group cannot end its threads, and about one run in 60 dies at its very end.
        importlib.import_module("torch.distributed.nn")
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return Runtime(chosen, precision, rank, world_size)


def processes_of_torchrun() -> tuple[int, int, int]:
    """(rank, number of processes, rank on this machine): 0, 1, 0 unless torchrun set its variables.

    Raises InputError for variables that torchrun would not set.
    """
    numbers = []
    for name, usual in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")):
        value = os.environ.get(name, usual)
        if not value.isdecimal():
            raise InputError(f"the environment variable {name} is {value!r}, not a number: torchrun sets it")
        numbers.append(int(value))
    rank, world_size, local_rank = numbers
    missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
    if world_size > 1 and missing:
        raise InputError(
            f"WORLD_SIZE is {world_size}, but {' and '.join(missing)} missing: start with torchrun, or unset it"
        )
    return rank, world_size, local_rank


def set_backends(device: torch.device, needs_fp32: bool) -> None:
    """All settings of torch's backends. They hold for the whole process.

    With TF32 a GPU rounds the inputs of float32 matrix products to 10 bits after the point, and is several times as
    fast. A small perturbation would be rounded away.
    """
    torch.set_float32_matmul_precision("high" if computes_tf32(device) and not needs_fp32 else "highest")
    # cuDNN's attention makes a plan for each shape, which takes about a second, and our batches have many lengths.
    # Torch's own fused kernels do not.
    torch.backends.cuda.enable_cudnn_sdp(False)


def multiplies_in_tf32() -> bool:
    """Whether float32 matrix products on a GPU may round their inputs to TF32."""
    return torch.get_float32_matmul_precision() != "highest"


def keep_freed_memory() -> None:
    """Ask the C library (glibc) to keep freed memory for the next step.

    By default large blocks go back to the system, which clears them page by page when they are allocated again. That
    took a third of a training step.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # not glibc
        return
    mallopt(-4, 0)  # M_MMAP_MAX: take large blocks from the heap too
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: give back only free memory beyond 2 GiB


def choose_device(name: str) -> torch.device:
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, found in available.items() if found)
    if not available[name]:
        raise InputError(f"--device {name}: this machine has no such device")
    return torch.device(name)


def choose_precision(name: str, device: torch.device, needs_fp32: bool) -> str:
    if needs_fp32:
        if name not in ("auto", "fp32"):
            raise InputError(f"--precision {name}: {name} would round the perturbation of this option; use fp32")
        return "fp32"
    if name == "auto":
        if computes_bf16(device):
            return "bf16"
        return "fp16" if computes_fp16(device) else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise InputError(f"--precision fp16 needs a CUDA device, this run computes on {device.type}")
    if name == "bf16" and device.type == "cuda" and not computes_bf16(device):
        raise InputError("--precision bf16: this GPU does not compute in bfloat16; use fp16 or fp32")
    return name


def computes_bf16(device: torch.device) -> bool:
    """Whether the hardware multiplies bfloat16 matrices itself, without emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def computes_tf32(device: torch.device) -> bool:
    """Whether the device has matrix units for TF32: NVIDIA GPUs from Ampere on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def computes_fp16(device: torch.device) -> bool:
    """Whether the device has matrix units for float16: NVIDIA GPUs from Volta on (a T4, for example)."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (7, 0)


def compile_layers(model: nn.Module, backend: str = "inductor") -> None:
    """Compile each layer in place. No parameter is renamed, and second passes reuse the compiled layers."""
    for layer in model.bert.layers:
        layer.compile(backend=backend, dynamic=True)


def is_out_of_memory(error: Exception) -> bool:
    """Whether a tensor was too large for the GPU or for the RAM."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)

"""Where and in which precision a run computes. Applied from outside: the model knows none of it."""

import ctypes
import hashlib
import inspect
import os
import sys
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from minbert.errors import InputError
from minbert.signals import Signals

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Runtime:
    """One process of a run. Each feature that is off is a null object, so that the loop has no `if`."""

    device: torch.device
    precision: str = "fp32"  # fp32, bf16 or fp16
    rank: int = 0
    world: int = 1
    signals: Signals = field(default_factory=Signals)

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def describe(self) -> str:
        """cpu in bf16; cuda:0 in fp32, 2 processes"""
        return f"{self.device} in {self.precision}" + (f", {self.world} processes" if self.world > 1 else "")

    def autocast(self):
        """Matrix products in the run's precision; weights and their gradients stay float32."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, DTYPES[self.precision])

    def scaler(self) -> torch.amp.GradScaler:
        return torch.amp.GradScaler(self.device.type, enabled=self.precision == "fp16")

    def wrap(self, objective: nn.Module, some_unused: bool) -> nn.Module:
        """DistributedDataParallel around the whole objective. (Around the model, a method's second pass would
        mark its parameters ready twice.)"""
        if self.world == 1:
            return objective
        # Buffers are alike on all ranks; sending them in every step would cost as much as the weights (Mixout's).
        new = "forward_sync_buffers" in inspect.signature(DistributedDataParallel).parameters  # since torch 2.13
        buffers = {"forward_sync_buffers" if new else "broadcast_buffers": False}
        return DistributedDataParallel(objective, find_unused_parameters=some_unused, **buffers)

    def unsynchronized(self, objective: nn.Module, last: bool):
        """Gradients are averaged over the ranks with the last micro-batch of a step only."""
        return nullcontext() if last or self.world == 1 else objective.no_sync()

    def sum_over_ranks(self, tensor: Tensor) -> Tensor:
        """Replaces the tensor, on all ranks, by its sum over them, and returns it."""
        if self.world > 1:
            dist.all_reduce(tensor)
        return tensor

    def largest_of_ranks(self, number: int) -> int:
        if self.world == 1:
            return number
        tensor = torch.tensor(number, device=self.device)
        dist.all_reduce(tensor, dist.ReduceOp.MAX)
        return int(tensor)

    def synchronize(self) -> None:
        """Wait for the device, before a clock is read."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        elif self.device.type == "mps":
            torch.mps.synchronize()

    def peak_memory(self) -> int:
        """Bytes: allocated on the GPU at most, or resident in this process at most; 0 where that is not told."""
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
        return self

    def __exit__(self, kind=None, *_) -> None:
        self.signals.__exit__()
        if self.world > 1:
            if kind is None:  # none leaves while another waits for its last message, which would end that one, too
                with suppress(RuntimeError):  # another has failed, and says so itself
                    dist.barrier()
            dist.destroy_process_group()


def setup(device: str = "auto", precision: str = "auto", needs_fp32: bool = False) -> Runtime:
    """Choose device and precision, and join the other processes if torchrun started this one.

    Raises InputError for a device or a precision that is not there, or that the method rules out.
    """
    rank, world = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    chosen = choose_device(device)
    if chosen.type == "cuda":
        chosen = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        if chosen.index >= torch.cuda.device_count():
            raise InputError(f"torchrun started more processes than the {torch.cuda.device_count()} GPUs that are here")
        torch.cuda.set_device(chosen)
    else:
        keep_freed_memory()
    precision = choose_precision(precision, chosen, needs_fp32)
    if needs_fp32:
        torch.set_float32_matmul_precision("highest")  # TF32 rounds a small perturbation away, too
    if world > 1 and not dist.is_initialized():
        dist.init_process_group("nccl" if chosen.type == "cuda" else "gloo")
    return Runtime(chosen, precision, rank, world)


def keep_freed_memory() -> None:
    """Ask the C library (glibc) to keep freed blocks for the next step instead of handing them back to the
    system, which has to clear them page by page when they are wanted again: a third of a training step."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):  # another system, another allocator
        return
    mallopt(-4, 0)  # M_MMAP_MAX: large blocks come from the heap, too
    mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD: return only what is free beyond 2 GiB


def choose_device(name: str) -> torch.device:
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        name = next(kind for kind, found in there.items() if found)
    if not there[name]:
        raise InputError(f"--device {name}: there is none here")
    return torch.device(name)


def choose_precision(name: str, device: torch.device, needs_fp32: bool) -> str:
    if needs_fp32:
        if name not in ("auto", "fp32"):
            raise InputError(
                f"--precision {name}: this option perturbs its input by less than {name} resolves; use fp32"
            )
        return "fp32"
    if name == "auto":
        return "bf16" if computes_bf16(device) else "fp32"
    if name == "fp16" and device.type != "cuda":
        raise InputError(f"--precision fp16 needs a CUDA device, not {device.type}")
    if name == "bf16" and device.type == "cuda" and not computes_bf16(device):
        raise InputError("--precision bf16: this GPU does not compute in bfloat16; use fp16 or fp32")
    return name


def computes_bf16(device: torch.device) -> bool:
    """Whether the hardware itself multiplies bfloat16 matrices, without emulation."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device.type == "cpu" and hasattr(torch.cpu, "get_capabilities"):
        capabilities = torch.cpu.get_capabilities()
        return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
    return False


def compile_blocks(model: nn.Module, backend: str = "inductor") -> None:
    """Compile each layer in place: no parameter is renamed, and second passes reuse the layers' graphs."""
    for layer in model.bert.layers:
        layer.compile(backend=backend, dynamic=True)


def derive_seed(*parts) -> int:
    """One seed from several numbers and words: neighbours have nothing in common."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "big")


def generator_state(device: torch.device) -> tuple:
    """(CPU state, device state or None, device): what dropout on `device` will draw from."""
    own = None
    if device.type == "cuda":
        own = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        own = torch.mps.get_rng_state()
    return torch.get_rng_state(), own, device


def set_generator_state(state: tuple) -> None:
    cpu, own, device = state
    torch.set_rng_state(cpu)
    if device.type == "cuda":
        torch.cuda.set_rng_state(own, device)
    elif device.type == "mps":
        torch.mps.set_rng_state(own)


@contextmanager
def replay(state: tuple):
    """Run the body from an earlier generator state, so that it meets the same dropout masks bit for bit."""
    before = generator_state(state[2])
    set_generator_state(state)
    try:
        yield
    finally:
        set_generator_state(before)

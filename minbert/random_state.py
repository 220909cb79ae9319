"""Seeds and generator states: how a run is repeated bit for bit, and how a second pass draws the masks of the first."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor


class GeneratorState(NamedTuple):
    """What dropout on one device will draw from."""

    cpu: Tensor
    accelerator: Tensor | None  # the state of the device's own generator; None on a CPU
    device: torch.device


def derive_seed(*parts) -> int:
    """Hash numbers and words into one seed, 0 to 2⁵⁶ - 1. Neighbouring inputs give unrelated seeds."""
    return int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=7).digest(), "big")


def generator_state(device: torch.device) -> GeneratorState:
    """The current state of the generators that passes on `device` draw from."""
    accelerator = None
    if device.type == "cuda":
        accelerator = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        accelerator = torch.mps.get_rng_state()
    return GeneratorState(torch.get_rng_state(), accelerator, device)


def set_generator_state(state: GeneratorState) -> None:
    """Put the generators back into an earlier state."""
    torch.set_rng_state(state.cpu)
    if state.device.type == "cuda":
        torch.cuda.set_rng_state(state.accelerator, state.device)
    elif state.device.type == "mps":
        torch.mps.set_rng_state(state.accelerator)


@contextmanager
def replay(state: GeneratorState) -> Iterator[None]:
    """Run the body from an earlier generator state, and restore the present one afterwards.

    A forward pass in the body draws the dropout masks that a pass from the same state drew before, bit for bit.
    """
    before = generator_state(state.device)
    set_generator_state(state)
    try:
        yield
    finally:
        set_generator_state(before)

"""The steps of an optimizer: one is a whole trajectory of two parameters, of which one has no gradient for a step."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor, nn

from minbert.sanity import mistakes, plain
from minbert.sanity.references import Trajectory
from minbert.sanity.verdict import Step

RESUME_AT = 3  # the step before which the state is saved and restored


def optimizer_steps(cls, runs: dict[str, Trajectory]) -> Iterator[Step]:
    """A run for each setting of AdamW; then the last once more, with its state saved and restored on the way."""
    for name, run in runs.items():
        yield optimizer_step(f"optimizer {name}", cls, run, mistakes.ADAM)
    yield optimizer_step("optimizer saved and restored", cls, run, mistakes.RESUMED, RESUME_AT)


def optimizer_step(name: str, cls, run: Trajectory, known: mistakes.Mistakes, resume_at: int | None = None) -> Step:
    return Step(
        name,
        run.expected,
        partial(take_steps, cls, run, resume_at),
        partial(plain_steps, run, resume_at),
        known,
        ("step", "number"),
        "minbert/optimizer.py has the equations at its head; m, v and the step count belong in self.state[p]",
    )


@torch.enable_grad()  # as in training: what changes a parameter must say no_grad itself
def take_steps(cls, run: Trajectory, resume_at: int | None) -> Tensor:
    params, out = [nn.Parameter(start.clone()) for start in run.starts], []

    def build():
        first, second = run.groups
        return cls([{"params": params[:1]}, {"params": params[1:], **second}], **first)

    optimizer = build()
    for number, gradients in enumerate(zip(*run.gradients)):
        if number == resume_at:
            state, optimizer = optimizer.state_dict(), build()
            optimizer.load_state_dict(state)
        for p, g in zip(params, gradients):
            p.grad = None if g is None else g.clone()
        optimizer.step()
        out.append(torch.cat([p.detach().clone() for p in params]))
    return torch.stack(out)


def plain_steps(run: Trajectory, resume_at: int | None, *, read_groups=True, **mistake) -> Tensor:
    parts = [
        plain.adam(start, gradients, **{**(own if read_groups else run.groups[0]), **mistake}, resume_at=resume_at)
        for start, gradients, own in zip(run.starts, run.gradients, run.groups)
    ]
    return torch.cat(parts, dim=1)

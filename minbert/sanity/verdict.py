"""The first step of an implementation that diverges from what is expected, and the mistake that explains it.

A mistake explains a divergence if the plain computation, made to err in that way, gives the same numbers.
"""

import itertools
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from minbert.sanity.mistakes import Mistakes

TOLERANCE = 1e-5  # of a step's largest number: float32 rounds to 1e-7, and sums of its products to some 1e-6


@dataclass(frozen=True)
class Step:
    """One step: `run` is the implementation, `plain(**keywords)` the plain computation with one of `mistakes`."""

    name: str
    expected: Tensor
    run: Callable[[], Tensor]
    plain: Callable[..., Tensor]
    mistakes: Mistakes
    axes: tuple[str, ...]
    hint: str
    real: Tensor | None = None  # bool, broadcasts to `expected`: False at padding


@dataclass(frozen=True)
class Divergence:
    """Where the implementation parts from what is expected. `cause` is None if no known mistake explains it."""

    step: str
    cause: str | None
    verdict: str

    def __str__(self) -> str:
        return self.verdict


@torch.no_grad()
def first_divergence(steps: Iterable[Step], in_training: bool = False, say=print) -> Divergence | None:
    """Run the steps, a line for each, up to the first that diverges. None: all are right."""
    for step in steps:
        got, raised = attempt(step)
        largest = float("inf") if got is None else difference(step, got, step.expected)
        remark = raised or f"largest difference {largest:.1e}"
        if not raised and largest <= tolerance(step, step.expected):
            say(f"ok       {step.name:<36} {remark}")
            continue
        say(f"differs  {step.name:<36} {remark}")
        cause = None if got is None else random_cause(step, got, in_training) or known_cause(step, got)
        verdict = f"First divergence: {step.name}. " + (f"Likely cause: {cause}." if cause else unexplained(step, got))
        say(verdict)
        return Divergence(step.name, cause, verdict)
    return None


def attempt(step: Step) -> tuple[Tensor | None, str]:
    """What the implementation gives, in float64, and one line on what it raised, if it did.

    A division by zero counts as the NaN that it would have been in a tensor: that mistake can be found.
    """
    try:
        got = step.run()
    except ZeroDivisionError as error:
        return torch.full_like(step.expected, torch.nan), describe_exception(error)
    except Exception as error:
        return None, describe_exception(error)
    if not isinstance(got, Tensor):
        return None, f"gives {type(got).__name__}, not a tensor"
    return got.detach().double().cpu(), ""


def describe_exception(error: Exception) -> str:
    """NotImplementedError: to do (attention.py, line 33): the last line outside of torch"""
    torchs = Path(torch.__file__).parent
    frames = [f for f in traceback.extract_tb(error.__traceback__) if torchs not in Path(f.filename).parents]
    text = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    return f"{text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def random_cause(step: Step, got: Tensor, in_training: bool) -> str | None:
    again, _ = attempt(step)
    if again is not None and difference(step, got, again) == 0:
        return None
    if in_training:
        return "the model is in train mode, so dropout is active: call model.eval()"
    return "dropout is active in eval mode: two runs give different numbers, and F.dropout wants training=self.training"


def known_cause(step: Step, got: Tensor) -> str | None:
    """The mistake that gives the same numbers, or else the two that do so together, or else None.

    Mistakes that fit equally well (both give nothing but NaN, say) are all named.
    """
    pairs = [
        (f"two mistakes: {first}; and {second}", a | b)
        for (first, a), (second, b) in itertools.combinations(step.mistakes, 2)
        if not a.keys() & b.keys()
    ]
    for candidates in (step.mistakes, pairs):
        misfits = [(misfit(step, keywords, got), cause) for cause, keywords in candidates]
        best = min((apart for apart, _ in misfits), default=torch.inf)
        if best <= 1:
            return "; or ".join(dict.fromkeys(cause for apart, cause in misfits if apart == best))
    return None


def misfit(step: Step, keywords: dict, got: Tensor) -> float:
    """How far off the mistake's numbers are, in tolerances (where all numbers are 0 or NaN, that is 0)."""
    made = step.plain(**keywords)
    return difference(step, made, got) / max(tolerance(step, made), 1e-30)


def unexplained(step: Step, got: Tensor | None) -> str:
    """Where and by how much it differs, in words, with the step's hint."""
    if got is None:
        where = "There are no numbers to compare"
    elif got.shape != step.expected.shape:
        where = f"No known mistake gives the shape {list(got.shape)}, where {list(step.expected.shape)} was expected"
    else:
        apart = differences(step, got, step.expected)
        worst = torch.unravel_index(apart.argmax(), apart.shape)
        place = ", ".join(f"{axis} {int(i)}" for axis, i in zip(step.axes, worst))
        where = (
            f"No known mistake gives these numbers. {int((apart > tolerance(step, step.expected)).sum())} of "
            f"{apart.numel()} differ, most at {place} (counted from 0): {got[worst].item():.6g}, "
            f"where {step.expected[worst].item():.6g} was expected"
        )
    return f"{where}. Hint: {step.hint}."


def visible(step: Step, x: Tensor) -> Tensor:
    """Zeros at padding: what stands there is nobody's business."""
    return x if step.real is None else x.where(step.real, 0.0)


def differences(step: Step, a: Tensor, b: Tensor) -> Tensor:
    """|a - b|, where two NaN are alike, and one alone is infinitely far off."""
    alike = (a == b) | (a.isnan() & b.isnan())
    return visible(step, (a - b).abs().nan_to_num(nan=torch.inf).where(~alike, 0.0))


def difference(step: Step, a: Tensor, b: Tensor) -> float:
    return differences(step, a, b).max().item() if a.shape == b.shape else float("inf")


def tolerance(step: Step, x: Tensor) -> float:
    return TOLERANCE * visible(step, x).nan_to_num().abs().max().item()

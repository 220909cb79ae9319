"""Find the first step that differs from its expected numbers, and the mistake that explains it.

A mistake explains a step if the plain computation with this mistake gives the same numbers as the implementation.
"""

import math
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from minbert.sanity.mistakes import Mistakes

TOLERANCE = 1e-5  # share of the step's largest number: float32 rounds to 1e-7, and sums of its products to some 1e-6


@dataclass(frozen=True)
class Step:
    """One step: `run` calls the implementation, `plain(**keywords)` computes the step with one of `mistakes`."""

    name: str
    expected: Tensor
    run: Callable[[], Tensor]
    plain: Callable[..., Tensor]
    mistakes: Mistakes
    hint: str
    real: Tensor = field(default_factory=lambda: torch.tensor(True))  # False at padding, which is not compared


@dataclass(frozen=True)
class Divergence:
    """The first step that differs. `cause` is None if no known mistake explains it."""

    step: str
    cause: str | None
    verdict: str


@torch.no_grad()
def first_divergence(
    steps: Iterable[Step], in_training: bool = False, write: Callable[[str], object] = print
) -> Divergence | None:
    """Run the steps and write a line for each, up to the first that differs. None: all are right."""
    for step in steps:
        actual, error = run(step)
        difference = math.inf if actual is None else largest_difference(step, actual, step.expected)
        right = not error and difference <= tolerance(step, step.expected)
        write(f"{'ok' if right else 'differs':<8} {step.name:<36} {error or f'largest difference {difference:.1e}'}")
        if right:
            continue
        cause = None if actual is None else random_cause(step, actual, in_training) or known_cause(step, actual)
        explanation = f"Likely cause: {cause}." if cause else f"{locate(step, actual)}. Hint: {step.hint}."
        verdict = f"First divergence: {step.name}. {explanation}"
        write(verdict)
        return Divergence(step.name, cause, verdict)
    return None


def run(step: Step) -> tuple[Tensor | None, str]:
    """The output of the implementation in float64, and one line about its error.

    A division by zero counts as NaN, which it would be in a tensor, so that a known mistake can explain it.
    """
    try:
        actual = step.run()
    except ZeroDivisionError as error:
        return torch.full_like(step.expected, math.nan), describe_exception(error)
    except Exception as error:
        return None, describe_exception(error)
    if not isinstance(actual, Tensor):
        return None, f"gives {type(actual).__name__}, not a tensor"
    return actual.detach().double().cpu(), ""


def describe_exception(error: Exception) -> str:
    """NotImplementedError: to do (attention.py, line 33), where the line is the last one outside of torch"""
    torch_folder = Path(torch.__file__).parent
    frames = [f for f in traceback.extract_tb(error.__traceback__) if torch_folder not in Path(f.filename).parents]
    text = ": ".join([type(error).__name__, *str(error).strip().splitlines()[:1]])
    return f"{text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def random_cause(step: Step, actual: Tensor, in_training: bool) -> str | None:
    """Dropout, if a second run of the step gives other numbers."""
    again, _ = run(step)
    if again is not None and largest_difference(step, actual, again) == 0:
        return None
    if in_training:
        return "the model is in train mode, so dropout is active: call model.eval()"
    return "dropout is active in eval mode, since two runs differ: F.dropout needs training=self.training"


def known_cause(step: Step, actual: Tensor) -> str | None:
    """The mistake that gives the same numbers. If several fit equally well (all give NaN, say), all are named."""
    distances = {}
    for cause, keywords in step.mistakes:
        wrong = step.plain(**keywords)
        # In units of the tolerance. The minimum is for a mistake whose numbers are all 0 or NaN: its tolerance is 0.
        distance = largest_difference(step, actual, wrong) / max(tolerance(step, wrong), 1e-30)
        distances[cause] = min(distance, distances.get(cause, math.inf))
    best = min(distances.values())
    return "; or ".join(cause for cause in distances if distances[cause] == best) if best <= 1 else None


def locate(step: Step, actual: Tensor | None) -> str:
    """Where and by how much the numbers differ, in words."""
    if actual is None:
        return "There are no numbers to compare"
    if actual.shape != step.expected.shape:
        return f"No known mistake gives the shape {list(actual.shape)}, expected {list(step.expected.shape)}"
    distances = differences(step, actual, step.expected)
    worst = torch.unravel_index(distances.argmax(), distances.shape)
    count = f"{int((distances > tolerance(step, step.expected)).sum())} of {distances.numel()} differ"
    place = (
        f"at index {[int(i) for i in worst]}: {actual[worst].item():.6g}, expected {step.expected[worst].item():.6g}"
    )
    return f"No known mistake gives these numbers. {count}, most {place}"


def differences(step: Step, a: Tensor, b: Tensor) -> Tensor:
    """|a - b|, where NaN equals NaN and is infinitely far from any number. 0 at padding."""
    equal = (a == b) | (a.isnan() & b.isnan()) | ~step.real
    return (a - b).abs().nan_to_num(nan=math.inf).where(~equal, 0.0)


def largest_difference(step: Step, a: Tensor, b: Tensor) -> float:
    return differences(step, a, b).max().item() if a.shape == b.shape else math.inf


def tolerance(step: Step, x: Tensor) -> float:
    return TOLERANCE * x.where(step.real, 0.0).nan_to_num().abs().max().item()

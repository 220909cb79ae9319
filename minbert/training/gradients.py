"""--record gradients: the norm of the gradient of each parameter, for the task and for each penalty separately.

Mosbach et al. 2021 show such norms in Figures 4 and 10 to 12. Recording changes no bit of the training. Without
penalties the gradient of the step is that of the task. With penalties a recorded step has one more backward pass for
each term. The task's gradient includes the factor of --task-weights: the gradients of the terms add up to the step's.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from minbert.classifier import SentenceModel
from minbert.errors import InputError
from minbert.training.runtime import Runtime
from minbert.training.settings import CommonSettings
from minbert.weights import trained_parameters


def check_recording(settings: CommonSettings, runtime: Runtime) -> None:
    """Raise InputError for settings in which the gradients of a single term cannot be computed."""
    if "gradients" not in settings.record:
        return
    if runtime.is_distributed:
        raise InputError("--record gradients works in one process: leave out torchrun")
    if runtime.precision == "fp16":
        raise InputError("--record gradients needs --precision fp32 or bf16: in fp16 small gradients are lost")


class GradientRecorder:
    """Writes the norms of the gradients of every `every`-th step. With None it does nothing."""

    def __init__(
        self,
        model: SentenceModel,
        every: int | None,
        write_row: Callable[[dict], object],
        loss_weights: dict[str, float] | None = None,
    ):
        self.every, self.write_row = every, write_row
        self.loss_weights = loss_weights or {}  # task -> the factor of its loss, as in Objective
        self.parameters = trained_parameters(model)
        self.step = 0
        self.is_due = False
        self.sums: dict[str, dict[str, Tensor]] = {}  # term -> parameter -> gradient of the step

    def start_step(self, step: int) -> None:
        """A step begins; the first one is 1."""
        self.step, self.is_due, self.sums = step, self.every is not None and step % self.every == 0, {}

    def add_terms(self, terms: dict[str, Tensor], share: float, task: str) -> None:
        """Before the backward pass of a micro-batch: the gradient of each term, times the micro-batch's share."""
        if not self.is_due or (len(terms) == 1 and not self.sums):
            return
        if not self.sums:  # the micro-batches before had no penalty: what they left in .grad is the task's gradient
            self.sums["task"] = {name: p.grad.clone() for name, p in self.parameters.items() if p.grad is not None}
        terms = terms | {"task": self.loss_weights.get(task, 1.0) * terms["task"]}
        for term, value in terms.items():
            if not value.requires_grad:
                continue
            # The graph stays: the backward pass of the step still needs it. Nothing is added to any .grad.
            gradients = torch.autograd.grad(
                value * share, self.parameters.values(), retain_graph=True, allow_unused=True
            )
            sums = self.sums.setdefault(term, {})
            for name, gradient in zip(self.parameters, gradients):
                if gradient is not None:
                    sums[name] = sums[name] + gradient if name in sums else gradient

    def end_step(self) -> None:
        """After all backward passes, before clipping: write the norms. "all" is the gradient of the whole step."""
        if not self.is_due:
            return
        whole = {name: p.grad for name, p in self.parameters.items() if p.grad is not None}
        gradients = {"all": whole} | self.sums
        self.write_row({"step": self.step, "gradients": {term: norms(of_term) for term, of_term in gradients.items()}})
        self.sums = {}


def norms(gradients: dict[str, Tensor]) -> dict[str, float]:
    """The L2 norm of each gradient. The device is read once."""
    if not gradients:
        return {}
    values = torch.stack([gradient.float().norm() for gradient in gradients.values()]).tolist()
    return dict(zip(gradients, values))

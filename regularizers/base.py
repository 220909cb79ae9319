"""Method: what a paper may add to fine-tuning.  Sum: several of them at once.

Rules for a method: it never stores the model, which is passed to it. No tensor of a forward pass survives as
an attribute. Gradients inside a penalty come from torch.autograd.grad, so that no parameter's .grad is
touched. Whatever it draws, it draws in `penalty`, never in the clean pass.
"""

import torch
from torch import Tensor, nn

from minbert.runtime import derive_seed


class Method(nn.Module):
    """Plain fine-tuning (Devlin et al. 2019): the task loss and nothing else. Every default does nothing."""

    fp32 = False  # True: its perturbation is lost in bf16/TF32, so all passes run in float32
    inserts = False  # True: attach adds or freezes modules; Sum attaches these first
    neutral: dict | None = {}  # settings at which it equals plain fine-tuning; None where there are none
    lr: float | None = None  # the learning rate it wants by default, where it wants one

    def attach(self, model: nn.Module) -> None:
        """Once, before training, with the pretrained weights in place: insert, freeze, remember θ₀."""

    def undecayed(self, model: nn.Module) -> tuple[Tensor, ...]:
        """Parameters that weight decay must leave alone."""
        return ()

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """Its own optimizers, saved like the main one."""
        return ()

    def warmup(self, model: nn.Module, batches) -> None:
        """A stage of its own before the first step. Each call of batches() yields the training set once, in the same
        batches in the same order, as large as those that `penalty` will see."""

    def penalty(self, model: nn.Module, batch, clean) -> dict[str, Tensor]:
        """Named terms to add to the loss, weight included, means over the batch. `clean` is the Output of the
        batch's one clean pass."""
        return {}

    def after_step(self, model: nn.Module, progress: float) -> None:
        """After each optimizer step; progress = share of all steps done, 0..1."""


class Sum(Method):
    """All parts at once, on one clean pass: `smart+frozen`. Terms are named smart.smoothness and so on."""

    def __init__(self, parts: dict[str, Method]):
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.fp32 = any(part.fp32 for part in parts.values())
        self.lr = min((part.lr for part in parts.values() if part.lr), default=None)

    def attach(self, model: nn.Module) -> None:
        for part in sorted(self.parts.values(), key=lambda part: not part.inserts):  # the inserting ones first
            part.attach(model)

    def undecayed(self, model: nn.Module) -> tuple[Tensor, ...]:
        return tuple(p for part in self.parts.values() for p in part.undecayed(model))

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return tuple(optimizer for part in self.parts.values() for optimizer in part.optimizers())

    def warmup(self, model: nn.Module, batches) -> None:
        seed = torch.initial_seed()
        for name, part in self.parts.items():
            torch.manual_seed(derive_seed(seed, name))
            part.warmup(model, batches)

    def penalty(self, model: nn.Module, batch, clean) -> dict[str, Tensor]:
        terms, seed = {}, torch.initial_seed()  # the seed that was set before the clean pass
        for name, part in self.parts.items():
            torch.manual_seed(derive_seed(seed, name))  # so a part draws the same alone and in company
            terms |= {f"{name}.{term}": value for term, value in part.penalty(model, batch, clean).items()}
        return terms

    def after_step(self, model: nn.Module, progress: float) -> None:
        for part in self.parts.values():
            part.after_step(model, progress)

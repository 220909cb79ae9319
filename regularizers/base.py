"""Method: what a paper may add to fine-tuning.  Sum: several of them at once.  Wrapper: a module put into BERT.

Rules for a method: it never stores the model, which is passed to it. No tensor of a forward pass survives as
an attribute. Gradients inside a penalty come from torch.autograd.grad, so that no parameter's .grad is
touched. Whatever it draws, it draws in `penalty`, not in the clean pass (but for Mixout and noise, which are
about that pass). An inserted module has no dropout.
"""

import torch
from torch import Tensor, nn

from minbert.errors import InputError
from minbert.runtime import derive_seed
from minbert.weights import is_inserted

# What methods need to change, or freeze.
WEIGHTS, HIDDEN_STATES, DROPOUT = "the pretrained weights", "the hidden states", "the masks of dropout"


class Method(nn.Module):
    """Plain fine-tuning (Devlin et al. 2019): the task loss and nothing else. Every default does nothing."""

    fp32 = False  # True: its perturbation is lost in bf16/TF32, so all passes run in float32
    inserts = False  # True: attach adds or freezes modules; Sum attaches these first
    neutral: dict | None = {}  # settings at which it equals plain fine-tuning; None where there are none
    lr: float | None = None  # the learning rate it wants by default, where it wants one

    # What build refuses to join: a method that freezes what another needs to change, and two of one kind.
    freezes: tuple[str, ...] = ()  # WEIGHTS: (most of) them stay as they are; HIDDEN_STATES: so do these
    needs: tuple[str, ...] = ()  # the same words: what has to change in training for it to mean anything
    kind: str | None = None  # what only one method can be at a time, in words

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
        seed = torch.initial_seed()
        for name, part in sorted(self.parts.items(), key=lambda item: not item[1].inserts):  # the inserting ones first
            torch.manual_seed(derive_seed(seed, "attach", name))  # so what it inserts is the same alone and in company
            try:
                part.attach(model)
            except ValueError as error:  # a hyper-parameter that does not fit this model
                raise InputError(f"--set {name}: {error}") from None

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


def check_not_negative(method: Method, *names: str) -> None:
    """Raise ValueError for a hyper-parameter that is negative, infinite or no number."""
    for name in names:
        if not 0 <= getattr(method, name) < float("inf"):
            raise ValueError(f"{name} must be a number from 0 up, not {getattr(method, name)}")


def check_at_least_one(method: Method, *names: str) -> None:
    """Raise ValueError for a hyper-parameter that counts something and is below 1."""
    for name in names:
        if getattr(method, name) < 1:
            raise ValueError(f"{name} must be at least 1, not {getattr(method, name)}")


def check_layer(layer: int, model: nn.Module) -> None:
    """Raise ValueError for a layer, counted from 1, that the model does not have."""
    if not 1 <= layer <= len(model.bert.layers):
        raise ValueError(f"layer must lie from 1 to the model's {len(model.bert.layers)}, not {layer}")


class Wrapper(nn.Module):
    """A module around another, `base`, with the call signature of base. No saved name has the word in it.

    Whichever is inserted first, of two around one module that of the lower rank is inside.
    """

    rank = 0

    def around(self, module: nn.Module) -> nn.Module:
        """What belongs in the place of `module` now."""
        if getattr(module, "rank", -1) > self.rank:
            module.base = self.around(module.base)
            return module
        self.base = module
        return self


def innermost(module: nn.Module) -> nn.Module:
    """The plain module, under all that is around it."""
    return innermost(module.base) if isinstance(module, Wrapper) else module


def freeze(model: nn.Module, but: type | tuple = ()) -> None:
    """Train no pretrained weights but those of modules of that type. Whatever is inserted trains, and the heads."""
    for module, p in berts_own(model):
        if not isinstance(module, but):
            p.requires_grad_(False)


def pretrained(model: nn.Module) -> set[int]:
    """The ids of the parameters that have a pretrained value: not inserted, and not of a pooler that was missing."""
    fresh = {id(p) for p in model.bert.pooler.parameters()} if model.bert.fresh_pooler else set()
    return {id(p) for _, p in berts_own(model)} - fresh


def berts_own(model: nn.Module) -> list[tuple[nn.Module, nn.Parameter]]:
    """BERT's parameters, each with the module it belongs to; without what is inserted."""
    return [
        (module, p)
        for path, module in model.bert.named_modules()
        for name, p in module.named_parameters(recurse=False)
        if not is_inserted(f"{path}.{name}")
    ]

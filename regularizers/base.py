"""Method: what a paper adds to fine-tuning.  Sum: several methods at once.  Wrapper: a module put around one of BERT's.

docs/add-a-method.md shows how to write a method. Tests hold these rules for every registered method:

- The model is passed to each call and never stored. No tensor of a forward pass survives as an attribute.
- A method never calls .backward(), because that would add to the gradient of the step. torch.autograd.grad computes
  gradients inside a method, and carry_gradient hands them to the step.
- Random numbers come from torch's default generator, and only after the clean pass. (Mixout and noise change the clean
  pass itself.)
- An inserted module has no dropout.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import ClassVar

import torch
from torch import Tensor, nn

from minbert.classifier import Output, SentenceModel
from minbert.errors import InputError
from minbert.published import is_inserted
from minbert.random_state import derive_seed
from minbert.task import Batch

# Values of `needs` and `freezes`: what must change in training, and what the method stops from changing.
WEIGHTS, HIDDEN_STATES, DROPOUT = "the pretrained weights", "the hidden states", "the masks of dropout"
Batches = Callable[[str], Iterator[Batch]]  # a task's name -> its training examples, each once


class Method(nn.Module):
    """Plain fine-tuning (Devlin et al. 2019): the task loss and nothing else. Every default does nothing."""

    fp32: bool = False  # True: all passes run in float32, because bf16 and TF32 would round a small perturbation
    inserts: bool = False  # True: attach adds or freezes modules; Sum attaches these methods first
    neutral: ClassVar[dict | None] = {}  # settings at which it equals plain fine-tuning; None where there are none
    lr: float | None = None  # the learning rate that it wants by default, if it wants another

    # Which methods cannot be joined: one freezes what another needs, or both have the same kind.
    # WEIGHTS: most pretrained weights do not train. HIDDEN_STATES: no hidden state changes. DROPOUT: dropout is off.
    freezes: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()  # what has to change in training; otherwise the method has no effect
    kind: str | None = None  # what it inserts, for the message that refuses two methods of one kind

    def attach(self, model: SentenceModel) -> None:
        """Called once, before training, with the pretrained weights in place: insert, freeze, remember θ₀."""

    def undecayed(self, model: SentenceModel) -> tuple[Tensor, ...]:
        """Parameters that weight decay must leave alone."""
        return ()

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        """Its own optimizers, for parameters of its own. They are saved like the main one."""
        return ()

    def prepare(self, model: SentenceModel, batches: Batches) -> None:
        """A stage before the first step. batches(task) yields that task's training examples, each once and in the same
        order in every call, in batches as large as those that `penalty` will see."""

    def loss(self, model: SentenceModel, batch: Batch, clean: Output) -> Tensor:
        """The loss of the batch, a mean over its examples. `clean` is the result of the batch's one clean pass."""
        return batch.task.loss(clean.logits, batch.labels)

    def penalty(self, model: SentenceModel, batch: Batch, clean: Output) -> dict[str, Tensor]:
        """Named terms to add to the loss: weight included, means over the batch."""
        return {}

    def after_step(self, model: SentenceModel, progress: float) -> None:
        """Called after each optimizer step. progress = the share of all steps that are done, 0 to 1."""

    def report(self) -> dict[str, float]:
        """Numbers to print at the end of a run, and to write into metrics.json."""
        return {}

    # How a run calls attach and prepare. Only Sum overrides these two; a method overrides attach and prepare.

    def attach_with_seed(self, model: SentenceModel, seed: int) -> None:
        """attach, with random weights that follow from the seed."""
        torch.manual_seed(seed)
        self.attach(model)

    def prepare_with_seed(self, model: SentenceModel, batches: Batches, seed: int) -> None:
        """prepare, with random numbers that follow from the seed."""
        torch.manual_seed(seed)
        self.prepare(model, batches)


class Sum(Method):
    """All parts at once, on one clean pass: `smart+frozen`. Their terms are named smart.smoothness and so on.

    Each part draws its random numbers from a seed of its own. So it draws the same numbers, and inserts the same
    weights, whether or not other methods are present.
    """

    def __init__(self, parts: dict[str, Method]):
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.fp32 = any(part.fp32 for part in parts.values())
        self.lr = min((part.lr for part in parts.values() if part.lr), default=None)

    def attach(self, model: SentenceModel) -> None:
        """attach_with_seed, where the random weights do not matter."""
        self.attach_with_seed(model, seed=0)

    def attach_with_seed(self, model: SentenceModel, seed: int) -> None:
        """Attach all parts. Raises InputError for a hyper-parameter that does not fit the model."""
        # Parts that insert come first, so that a snapshot (SMART's teacher, L2-SP's start) sees what was inserted.
        for name, part in sorted(self.parts.items(), key=lambda item: not item[1].inserts):
            torch.manual_seed(derive_seed(seed, "attach", name))
            try:
                part.attach(model)
            except ValueError as error:
                raise InputError(f"--option {name}: {error}") from None

    def undecayed(self, model: SentenceModel) -> tuple[Tensor, ...]:
        return tuple(p for part in self.parts.values() for p in part.undecayed(model))

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return tuple(optimizer for part in self.parts.values() for optimizer in part.optimizers())

    def prepare(self, model: SentenceModel, batches: Batches) -> None:
        self.prepare_with_seed(model, batches, seed=0)

    def prepare_with_seed(self, model: SentenceModel, batches: Batches, seed: int) -> None:
        for name, part in self.parts.items():
            torch.manual_seed(derive_seed(seed, name))
            part.prepare(model, batches)

    def loss(self, model: SentenceModel, batch: Batch, clean: Output) -> Tensor:
        """The loss of the part that replaces it, else the task's. `build` refuses two parts that replace it."""
        for name, part in self.parts.items():
            if replaces_loss(part):
                torch.manual_seed(derive_seed(batch.seed, name, "loss"))
                return part.loss(model, batch, clean)
        return super().loss(model, batch, clean)

    def penalty(self, model: SentenceModel, batch: Batch, clean: Output) -> dict[str, Tensor]:
        terms = {}
        for name, part in self.parts.items():
            torch.manual_seed(derive_seed(batch.seed, name))
            for term, value in part.penalty(model, batch, clean).items():
                terms[f"{name}.{term}"] = value
        return terms

    def after_step(self, model: SentenceModel, progress: float) -> None:
        for part in self.parts.values():
            part.after_step(model, progress)

    def report(self) -> dict[str, float]:
        return {f"{name}.{key}": value for name, part in self.parts.items() for key, value in part.report().items()}


def replaces_loss(method: Method) -> bool:
    """Whether a method computes the loss itself (FreeLB), and not the task."""
    return type(method).loss is not Method.loss


def carry_gradient(parameters: Iterable[Tensor], gradients: Iterable[Tensor | None]) -> Tensor:
    """A zero whose backward pass adds `gradients` to the gradients of `parameters`.

    So a gradient that a method computed itself reaches the step together with the others: it is weighted, averaged
    over ranks and clipped as they are. None stands for no gradient.
    """
    terms = [(p * g.detach()).sum() for p, g in zip(parameters, gradients, strict=True) if g is not None]
    total = torch.stack(terms).sum()
    return total - total.detach()


# Checks of hyper-parameters. They raise ValueError; `build` and Sum.attach turn it into one line.


def check_not_negative(method: Method, *names: str) -> None:
    """Raise ValueError for a hyper-parameter that is negative, infinite or not a number."""
    for name in names:
        if not 0 <= getattr(method, name) < float("inf"):
            raise ValueError(f"{name} must be at least 0 and finite, not {getattr(method, name)}")


def check_at_least_one(method: Method, *names: str) -> None:
    """Raise ValueError for a hyper-parameter that counts something and is below 1."""
    for name in names:
        if getattr(method, name) < 1:
            raise ValueError(f"{name} must be at least 1, not {getattr(method, name)}")


def check_choice(method: Method, name: str, choices: Iterable[str | None]) -> None:
    """Raise ValueError for a hyper-parameter that is not one of the choices."""
    if getattr(method, name) not in choices:
        words = ["none" if choice is None else choice for choice in choices]
        raise ValueError(f"{name} must be one of {', '.join(words)}, not {getattr(method, name)}")


def check_layer(layer: int, model: SentenceModel) -> None:
    """Raise ValueError for a layer, counted from 1, that the model does not have."""
    if not 1 <= layer <= len(model.bert.layers):
        raise ValueError(f"layer must be from 1 to {len(model.bert.layers)}, the model's layers, not {layer}")


# Modules put into BERT.


class Wrapper(nn.Module):
    """A module around another one, `base`, which it calls and whose signature it has.

    Files name the parameters of base as if the wrapper were not there. Of two wrappers around one module, the one with
    the lower nesting_order is inside, whichever is inserted first.
    """

    nesting_order = 0

    def wrap(self, module: nn.Module) -> nn.Module:
        """Put this wrapper around `module`, or inside the wrappers it already has. Returns the outermost one."""
        if isinstance(module, Wrapper) and module.nesting_order > self.nesting_order:
            module.base = self.wrap(module.base)
            return module
        self.base = module
        return self


def has_dropout(model: SentenceModel) -> bool:
    """Whether two passes of the model in training can differ."""
    return any(module.p for module in model.modules() if isinstance(module, nn.Dropout))


def unwrap(module: nn.Module) -> nn.Module:
    """The plain module inside all wrappers."""
    return unwrap(module.base) if isinstance(module, Wrapper) else module


def freeze(model: SentenceModel, except_for: type | tuple = ()) -> None:
    """Stop the pretrained weights from training, except in modules of one type.

    Heads, inserted modules and a pooler with fresh weights train: they have learned nothing yet.
    """
    pretrained = pretrained_ids(model)
    for module, p in bert_parameters(model):
        if id(p) in pretrained and not isinstance(module, except_for):
            p.requires_grad_(False)


def pretrained_ids(model: SentenceModel) -> set[int]:
    """The ids of the parameters with a pretrained value: not inserted, and not of a pooler with fresh weights."""
    fresh = {id(p) for p in model.bert.pooler.parameters()} if model.bert.fresh_pooler else set()
    return {id(p) for _, p in bert_parameters(model)} - fresh


def bert_parameters(model: SentenceModel) -> list[tuple[nn.Module, nn.Parameter]]:
    """The parameters of standard BERT, each with the module that owns it; without those of inserted modules."""
    return [
        (module, p)
        for path, module in model.bert.named_modules()
        for name, p in module.named_parameters(recurse=False)
        if not is_inserted(f"{path}.{name}")
    ]

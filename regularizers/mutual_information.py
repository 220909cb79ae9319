"""What the methods with estimators of mutual information share: MINE and the information bottleneck.

The estimators are fitted to the pretrained model before training (first_stage.py), and learn on while BERT trains. The
penalty compares their estimates with references, which were measured in the same way.

P pairs of variables, V variables, B batch, D width, q projected width.
"""

import copy
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from minbert.classifier import Output, SentenceModel
from minbert.errors import InputError
from minbert.task import Batch
from regularizers import first_stage
from regularizers.base import (
    DROPOUT,
    HIDDEN_STATES,
    Batches,
    Method,
    check_at_least_one,
    check_choice,
    check_not_negative,
    has_dropout,
)
from regularizers.estimators import MARGINALS, Estimators, adam, is_distributed

logger = logging.getLogger("minbert")
# How far an estimate is from its reference. "signed" is the plain difference.
DISTANCES = {"abs": torch.abs, "squared": torch.square, "signed": lambda gap: gap}
SMALLEST_BATCH = 8  # an estimate from fewer examples is worthless


# The constructor is that of a dataclass: each hyper-parameter, with its type and default, stands once, and a subclass
# only writes the ones that differ. (eq=False: a module is compared and hashed by identity.)
@dataclass(kw_only=True, eq=False, repr=False)
class InformationMethod(Method):
    """A method that penalises estimates of information between hidden states. Its estimators learn while BERT trains.

    A subclass says which states are compared (`states`, `pairs`) and how the estimates enter the loss (`penalty`).
    """

    name = ""  # the option, for messages
    neutral = {"weight": 0.0}
    needs = (HIDDEN_STATES, DROPOUT)  # the first stage draws several dropout masks for each example

    weight: float = 0.1
    marginals: str = "all_pairs"
    proj_dim: int | None = 16
    hidden: int = 256
    phi_lr: float = 2e-3
    ascents: int = 10

    def __post_init__(self):
        super().__init__()
        check_not_negative(self, "weight")
        check_at_least_one(self, "hidden", "ascents")
        check_choice(self, "marginals", MARGINALS)
        if not 0 < self.phi_lr < float("inf"):
            raise ValueError(f"phi_lr must be above 0 and finite, not {self.phi_lr}")
        if self.proj_dim is not None and self.proj_dim < 1:
            raise ValueError(f"proj_dim must be none or at least 1, not {self.proj_dim}")

    def pairs(self, layers: int) -> list[tuple[int, int]]:
        """The pairs of variables whose information is estimated, by their numbers, in a model with `layers` layers."""
        raise NotImplementedError

    def states(self, output: Output, batch: Batch) -> Tensor:
        """The variables [B,V,D] in the output of a pass."""
        raise NotImplementedError

    def attach(self, model: SentenceModel) -> None:
        """Make estimators for each task. Raises ValueError if the model has too few layers."""
        if not self.weight:
            return
        pairs, width = self.pairs(model.bert.config.num_hidden_layers), model.bert.config.hidden_size
        if not pairs:
            raise ValueError("it compares layers, and the model has only one")
        variables = 1 + max(right for _, right in pairs)
        shape = variables, width, self.proj_dim, self.hidden, self.marginals
        self.estimators = nn.ModuleDict({task.name: Estimators(pairs, *shape) for task in model.tasks})
        self.optimizer = adam(self.estimators, self.phi_lr)

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return (self.optimizer,) if self.weight else ()

    def prepare(self, model: SentenceModel, batches: Batches) -> None:
        """Fit each task's Estimators to the frozen model, and measure their references (see first_stage.py).

        Dropout is on, and each pass over the data draws new masks: so the states are like those of training. Raises
        InputError if a task has too few examples.
        """
        if not self.weight:
            return
        if not has_dropout(model):
            log_once("%s: the model has no dropout, so the estimators learn the training examples by heart", self.name)
        model.train()
        for task, estimators in self.estimators.items():
            passes = partial(self.pass_over, model, partial(batches, task))
            self.check_size(first_stage.standardise(estimators, passes))
            draws = first_stage.draw(estimators, passes)
            converged = first_stage.fit(estimators, draws, self.optimizer)
            first_stage.rehearse(estimators, passes, self.follow)
            first_batch = draws[0][0]
            found = first_stage.describe(estimators, rows=len(first_batch))
            log_once("%s: layers of the pretrained model on %s share %s", self.name, task, found)
            if not converged:
                limit = first_stage.STEPS
                log_once("%s: the estimates for %s still rose after %d steps, the limit", self.name, task, limit)

    def check_size(self, sizes: list[int]) -> None:
        """Raise InputError if batches of these sizes are too few for a fit."""
        fewest = first_stage.FEWEST_EXAMPLES
        if sum(sizes) < fewest or len(sizes) < 2:
            raise InputError(
                f"--option {self.name} needs {fewest} inputs to train on, in two or more (micro-)batches of at least "
                f"{SMALLEST_BATCH}, not {sum(sizes)} in {len(sizes)}"
            )

    def pass_over(self, model: SentenceModel, batches: Callable[[], Iterable[Batch]]) -> Iterator[Tensor]:
        """The states [B,V,D] of the batches that are large enough for an estimate."""
        for batch in batches():
            if len(batch) >= SMALLEST_BATCH:
                yield self.states(model(batch), batch)

    def follow(self, estimators: Estimators, z: Tensor) -> Tensor:
        """Estimate the information in projected states z [B,V,q], in nats [P]; then let the estimators learn from z.

        In this order, because an estimate is higher on a batch that the networks have just learned from.
        """
        information = copy.deepcopy(estimators).estimate(z)  # the copy stays as it is until the backward pass
        for _ in range(self.ascents):
            estimators.ascend(z, self.optimizer)
        return information


def large_enough(batch: Batch) -> bool:
    """Whether this micro-batch is large enough for an estimate on every rank.

    The ranks must agree: their batches differ by a row, and if one rank skipped a step of the estimators, the others
    would wait for it.
    """
    rows = len(batch)
    if is_distributed():
        fewest = torch.tensor(rows, device=batch.input_ids.device)
        dist.all_reduce(fewest, dist.ReduceOp.MIN)
        rows = int(fewest)
    return rows >= SMALLEST_BATCH


def log_once(message: str, *values) -> None:
    """Log a warning on one of the ranks."""
    if not is_distributed() or dist.get_rank() == 0:
        logger.warning(message, *values)

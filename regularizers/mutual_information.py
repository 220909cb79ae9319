"""Mutual information of hidden states, estimated by small networks while the model trains: for MINE and the
information bottleneck.

The bound of Donsker and Varadhan: I(X,Y) ≥ E_joint[G(x,y)] - log E_marginals[e^G(x,y)] for every G, with equality
at the best G. Belghazi et al. 2018 (arXiv:1801.04062v5) let a network G learn it by gradient ascent. On a batch of B
pairs the joint consists of the B pairs (x_i, y_i). The marginals consist of all B² pairs (x_i, y_j), or of the B pairs
(x_i, y_π(i)). With all pairs the estimate cannot exceed log B for any G: one batch cannot show more information.

Estimates of the same dependence differ by nats if marginals, batch size, dropout or examples differ, and an estimate is
higher on a batch that the network has just learned from. So a reference must be measured like the values that are
compared with it: `first_stage` sees the batches that `penalty` will see, with dropout on, and follows them as it does.

P pairs of variables, V variables, B batch, D width, H hidden units of G, q projected width.
"""

import copy
import itertools
import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
from torch import Tensor, nn

from minbert.classifier import Output, SentenceModel
from minbert.errors import InputError
from minbert.losses import to_float32
from minbert.task import Batch
from regularizers.base import (
    DROPOUT,
    HIDDEN_STATES,
    Batches,
    Method,
    check_at_least_one,
    check_choice,
    check_not_negative,
)

logger = logging.getLogger("minbert")
MARGINALS = ("all_pairs", "permute")
# How far an estimate is from its reference. "signed" is the plain difference.
DISTANCES = {"abs": torch.abs, "squared": torch.square, "signed": lambda gap: gap}
SMALLEST_BATCH, FEWEST_EXAMPLES = 8, 128  # an estimate from fewer examples is worthless
DRAWS, ENOUGH = 4, 20_000  # passes over the data, each with new dropout masks; fewer if ENOUGH states need fewer
# The fit takes at most STEPS steps, with an evaluation after each EVERY of them. PATIENCE evaluations without a gain
# end it. Then the networks follow REHEARSAL batches of the model that does not move.
STEPS, EVERY, PATIENCE, REHEARSAL = 2000, 100, 5, 100
NEAR_THE_LIMIT = 0.8  # an estimate above this share of log B can hardly rise
MOMENTUM = 0.01  # of the running mean of e^G


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
        """Make estimators for each task. Raises InputError if the model has too few layers."""
        if not self.weight:
            return
        pairs, width = self.pairs(model.bert.config.num_hidden_layers), model.bert.config.hidden_size
        if not pairs:
            raise InputError(f"--option {self.name} compares layers, and the model has only one")
        variables = 1 + max(right for _, right in pairs)
        shape = variables, width, self.proj_dim, self.hidden, self.marginals
        self.estimators = nn.ModuleDict({task.name: Estimators(pairs, *shape) for task in model.tasks})
        self.optimizer = adam(self.estimators, self.phi_lr)

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return (self.optimizer,) if self.weight else ()

    def prepare(self, model: SentenceModel, batches: Batches) -> None:
        if self.weight:
            first_stage(self, model, batches)

    def follow(self, estimators: "Estimators", z: Tensor) -> Tensor:
        """Estimate the information in projected states z [B,V,q], in nats [P]; then let the estimators learn from z.

        In this order, because an estimate is higher on a batch that the networks have just learned from.
        """
        information = copy.deepcopy(estimators).estimate(z)  # the copy stays as it is until the backward pass
        for _ in range(self.ascents):
            estimators.ascend(z, self.optimizer)
        return information


class Estimators(nn.Module):
    """G(x,y) = w₂·relu(W_x x + W_y y + b) for P pairs of V variables of width D. (An output bias would cancel.)

    The variables are standardised with the mean and standard deviation that `first_stage` measures. Then
    they are projected to `proj_dim` dimensions. The parameters require a gradient only inside `ascend`, so the model's
    backward pass and DistributedDataParallel ignore them.
    """

    def __init__(self, pairs: list[tuple[int, int]], variables: int, width: int, proj_dim: int | None, hidden: int,
                 marginals: str):  # fmt: skip
        super().__init__()
        self.left, self.right = [left for left, _ in pairs], [right for _, right in pairs]
        self.marginals = marginals
        self.register_buffer("mean", torch.zeros(variables, width))
        self.register_buffer("std", torch.ones(variables, width))
        self.register_buffer("log_ema", torch.zeros(len(pairs)))  # log of the running mean of e^G over the marginals
        self.register_buffer("reference", torch.zeros(len(pairs)))
        directions = None if proj_dim is None else torch.linalg.qr(torch.randn(width, min(proj_dim, width))).Q
        self.register_buffer("directions", directions)
        inputs = width if directions is None else directions.shape[1]

        def uniform(*shape: int, fan_in: int) -> nn.Parameter:
            bound = fan_in**-0.5
            return nn.Parameter(torch.empty(len(pairs), *shape).uniform_(-bound, bound), requires_grad=False)

        self.w_x, self.w_y = (uniform(inputs, hidden, fan_in=2 * inputs) for _ in range(2))
        self.b = uniform(1, hidden, fan_in=2 * inputs)
        self.w_2 = uniform(hidden, 1, fan_in=hidden)

    def project(self, states: Tensor) -> Tensor:
        """[B,V,D] -> [B,V,q], in float32.

        asinh is invertible, so it changes no information. Without it single outliers (37 standard deviations in layer 1
        of all-MiniLM-L6-v2) move a batch's estimate by 20 nats.
        """
        with torch.autocast(states.device.type, enabled=False):
            standard = (to_float32(states) - self.mean) / self.std
            return torch.asinh(standard if self.directions is None else standard @ self.directions)

    def scores(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """[B,V,q] -> G at the joint [P,B], G at the marginals [P,B,B] (row x_i, column y_j) or [P,B]"""
        with torch.autocast(z.device.type, enabled=False):
            z = z.transpose(0, 1)  # (V,B,q)
            x = z[self.left] @ self.w_x + self.b  # (P,B,H)
            y = z[self.right] @ self.w_y
            if self.marginals == "all_pairs":
                scores = self.output(x.unsqueeze(2) + y.unsqueeze(1))
                return scores.diagonal(dim1=1, dim2=2), scores
            return self.output(x + y), self.output(x + y[:, torch.randperm(y.shape[1], device=y.device)])

    def output(self, h: Tensor) -> Tensor:
        """[P,...,H] -> [P,...]"""
        return (h.relu_().flatten(1, -2) @ self.w_2).view(h.shape[:-1])  # one matmul: einsum takes twice as long

    def estimate(self, z: Tensor) -> Tensor:
        """The bound on each pair's information, in nats [P]. Only the states get a gradient."""
        return bound(*self.scores(z))

    def forward(self, states: Tensor) -> Tensor:
        """[B,V,D] -> [P]"""
        return self.estimate(self.project(states))

    def ascend(self, z: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """One optimizer step up the bound at fixed states z [B,V,q]. With several processes, up the mean of the bounds.

        The gradient of the log is E[∇e^G] / E[e^G]. With the batch's own E[e^G] as the divisor it is biased, so a
        running mean is the divisor (Belghazi et al., section 3.2).
        """
        parameters = list(self.parameters())
        self.requires_grad_(True)
        with torch.enable_grad():
            joint, marginal = self.scores(z.detach())
            (now,) = mean_over_ranks([log_mean_exp(marginal).detach()])
            self.log_ema.copy_(torch.logaddexp(self.log_ema + math.log(1 - MOMENTUM), now + math.log(MOMENTUM)))
            weight = (marginal.detach().flatten(1) - self.log_ema.unsqueeze(1)).exp()  # (P, number of marginal pairs)
            surrogate = joint.mean(1) - (weight * marginal.flatten(1)).mean(1)  # only its gradient has a meaning
            gradients = torch.autograd.grad(-surrogate.sum(), parameters)
        self.requires_grad_(False)
        for p, gradient in zip(parameters, mean_over_ranks(gradients)):
            p.grad = gradient
        optimizer.step()
        optimizer.zero_grad()


def bound(joint: Tensor, marginal: Tensor) -> Tensor:
    """Donsker-Varadhan: E_joint[G] - log E_marginals[e^G], [P]"""
    return joint.mean(1) - log_mean_exp(marginal)


def log_mean_exp(scores: Tensor) -> Tensor:
    """[P,...] -> [P]"""
    scores = scores.flatten(1)
    return scores.logsumexp(1) - math.log(scores.shape[1])


def mean_over_ranks(tensors: Iterable[Tensor]) -> list[Tensor]:
    """The mean of each tensor over all processes.

    Each value that changes the estimators goes through here, so they are the same on every rank, bit for bit.
    """
    tensors = [tensor.contiguous() for tensor in tensors]
    if is_distributed():
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor /= dist.get_world_size()
    return tensors


def is_distributed() -> bool:
    return dist.is_available() and dist.is_initialized()


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


# The first stage.


def first_stage(method: InformationMethod, model: SentenceModel, batches: Batches) -> None:
    """Fit each task's Estimators to the frozen model, and measure their references.

    Dropout is on, and each pass over the data draws new masks: so the states are like those of training. Raises
    InputError if a task has too few examples.
    """
    if not any(module.p for module in model.modules() if isinstance(module, nn.Dropout)):
        log_once("%s: the model has no dropout, so the estimators learn the training examples by heart", method.name)
    model.train()
    for task, estimators in method.estimators.items():
        of_task = partial(large_batches, batches, task)
        draws = draw(method, estimators, model, of_task)
        converged = fit(estimators, draws, method.optimizer)
        rehearse(method, estimators, model, of_task)
        log_once("%s: layers of the pretrained model on %s share %s", method.name, task, describe(estimators, draws))
        if not converged:
            log_once("%s: the estimates for %s still rose after %d steps, the limit", method.name, task, STEPS)


def log_once(message: str, *values) -> None:
    """Log a warning on one of the ranks."""
    if not is_distributed() or dist.get_rank() == 0:
        logger.warning(message, *values)


def describe(estimators: Estimators, draws: list[list[Tensor]]) -> str:
    """The references, the most that a batch can show, and a warning if they are near it."""
    text = " ".join(f"{value:.2f}" for value in estimators.reference) + " nats"
    if estimators.marginals != "all_pairs":
        return text
    rows = len(draws[0][0])
    text += f"; {rows} examples show at most {math.log(rows):.2f}"
    if estimators.reference.max() > NEAR_THE_LIMIT * math.log(rows):
        text += ", which is too near: lower proj_dim, or take larger batches"
    return text


def large_batches(batches: Batches, task: str) -> Iterator[Batch]:
    """The batches of a task that are large enough for an estimate."""
    return (batch for batch in batches(task) if len(batch) >= SMALLEST_BATCH)


@torch.no_grad()
def draw(
    method: InformationMethod, estimators: Estimators, model: SentenceModel, batches: Callable[[], Iterable[Batch]]
) -> list[list[Tensor]]:
    """Measure mean and std of the states. Then draw the projected states [B,V,q] of each batch, several times."""
    count, total, squares, number = 0, 0.0, 0.0, 0
    for batch in batches():
        h = to_float32(method.states(model(batch), batch))
        total, squares = total + h.sum(0).cpu().double(), squares + h.square().sum(0).cpu().double()
        count, number = count + len(h), number + 1
    if count < FEWEST_EXAMPLES or number < 2:
        raise InputError(
            f"--option {method.name} needs {FEWEST_EXAMPLES} inputs to train on, in two or more (micro-)batches of at "
            f"least {SMALLEST_BATCH}, not {count} in {number}"
        )
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=1e-10).sqrt()
    mean, std = mean_over_ranks([mean.to(estimators.mean), std.to(estimators.std)])
    estimators.mean.copy_(mean)
    estimators.std.copy_(std)
    draws = max(1, min(DRAWS, ENOUGH // count))
    return [[estimators.project(method.states(model(batch), batch)) for batch in batches()] for _ in range(draws)]


def fit(estimators: Estimators, draws: list[list[Tensor]], optimizer: torch.optim.Optimizer) -> bool:
    """Ascend on nine of ten batches until the smoothed bound on the tenth stops rising.

    Each pair keeps its best parameters. Returns whether the bounds stopped rising before the limit of STEPS.
    """
    held_out = [z for batches in draws for z in batches[::10]]
    fitted = [z for batches in draws for k, z in enumerate(batches) if k % 10]
    smooth = best = measure(estimators, held_out)
    stale, best_state = 0, {name: value.clone() for name, value in estimators.state_dict().items()}
    for step in range(1, STEPS + 1):
        estimators.ascend(fitted[int(torch.randint(len(fitted), ()))], optimizer)
        if step % EVERY == 0:
            smooth = (smooth + measure(estimators, held_out)) / 2
            better = smooth > best
            for name in (*dict(estimators.named_parameters()), "log_ema"):
                best_state[name][better] = estimators.state_dict()[name][better]
            best = torch.where(better, smooth, best)
            stale = 0 if better.any() else stale + 1
            if stale == PATIENCE:
                break
    estimators.load_state_dict(best_state)
    return stale == PATIENCE


@torch.no_grad()
def rehearse(
    method: InformationMethod, estimators: Estimators, model: SentenceModel, batches: Callable[[], Iterable[Batch]]
) -> None:
    """Follow the frozen model over REHEARSAL batches as if it were training. The mean estimates are the references.

    Each batch has new dropout masks. With the masks of the fit, which the networks know, estimates are .7 nats higher.
    The first half only lets the networks get used to a new batch in each step.
    """
    values = []
    while len(values) < REHEARSAL:
        for batch in itertools.islice(batches(), REHEARSAL - len(values)):
            z = estimators.project(method.states(model(batch), batch))
            values.append(method.follow(estimators, z))
    estimators.reference.copy_(mean_over_ranks([torch.stack(values[REHEARSAL // 2 :]).mean(0)])[0])


@torch.no_grad()
def measure(estimators: Estimators, batches: list[Tensor]) -> Tensor:
    """Mean bound over the batches [P]"""
    return mean_over_ranks([torch.stack([estimators.estimate(z) for z in batches]).mean(0)])[0]


def adam(module: nn.Module, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=lr, weight_decay=1e-4)

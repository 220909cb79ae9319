"""Mutual information of hidden states, estimated by small networks while the model trains. For MINE and the
information bottleneck.

The bound of Donsker and Varadhan: I(X,Y) ≥ E_joint[G(x,y)] - log E_marginals[e^G(x,y)] for every G, with equality
at the best; Belghazi et al. 2018 (arXiv:1801.04062v5) let a network G learn it by gradient ascent. On a batch of B
pairs the joint consists of the B pairs (x_i, y_i), and the marginals of all B² pairs (x_i, y_j), or of B pairs
(x_i, y_π(i)). With all pairs no G whatever gets above log B: what a batch can show is bounded.

Estimates of one and the same dependence differ by nats with marginals, batch size, dropout and examples. A
reference must come from what it will be compared with: `first_stage` sees the batches of training as `penalty`
will see them, with dropout on. P pairs of variables, V variables, B batch, D width, H hidden, q projected width.
"""

import logging
import math

import torch
import torch.distributed as dist
from torch import Tensor, nn

from minbert.errors import InputError
from minbert.losses import to_float32
from regularizers.base import check_at_least_one, check_not_negative

logger = logging.getLogger("minbert")
MARGINALS = ("all_pairs", "permute")
DISTANCES = {"abs": torch.abs, "squared": torch.square, "signed": lambda gap: gap}
SMALLEST_BATCH, FEWEST_EXAMPLES = 8, 128  # an estimate from less says nothing
DRAWS, ENOUGH = 4, 20_000  # dropout masks for each example; fewer for sets that reach ENOUGH states with fewer
STEPS, EVERY, PATIENCE = 2000, 100, 5  # of the first stage: at most; between two evaluations; evaluations without gain
MOMENTUM = 0.01  # of the running mean of e^G


class Estimators(nn.Module):
    """G(x,y) = w₂·relu(W_x x + W_y y + b) for P pairs of V variables of width D. (An output bias would cancel.)

    The variables are standardised and, with `proj_dim`, projected to that many dimensions, by constants that
    `first_stage` measures. Parameters never require a gradient outside of `ascend`, so neither the model's
    backward pass nor DistributedDataParallel knows of them.
    """

    def __init__(self, pairs: list[tuple[int, int]], variables: int, width: int, proj_dim: int | None, hidden: int,
                 marginals: str):  # fmt: skip
        super().__init__()
        self.left, self.right = map(list, zip(*pairs))
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
        """[B,V,D] -> [B,V,q], in float32. asinh is invertible, so it changes no information; without it single
        outliers (37 standard deviations in layer 1 of all-MiniLM-L6-v2) move a batch's estimate by 20 nats."""
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
        return (h.relu_().flatten(1, -2) @ self.w_2).view(h.shape[:-1])  # as one product: einsum takes twice as long

    def estimate(self, z: Tensor) -> Tensor:
        """The bound on each pair's information, in nats [P]. The gradient flows to the states alone."""
        return bound(*self.scores(z))

    def forward(self, states: Tensor) -> Tensor:
        return self.estimate(self.project(states))

    def ascend(self, z: Tensor, optimizer: torch.optim.Optimizer) -> None:
        """One step up the bound, at states that stay as they are; with several processes, up their mean.

        The gradient of the log is E[∇e^G] / E[e^G]; with the batch's own E[e^G] below the line it is biased, and
        so a running mean stands there (Belghazi et al., section 3.2).
        """
        parameters = list(self.parameters())
        self.requires_grad_(True)
        with torch.enable_grad():
            joint, marginal = self.scores(z.detach())
            (now,) = mean_over_ranks([log_mean_exp(marginal).detach()])
            self.log_ema.copy_(torch.logaddexp(self.log_ema + math.log(1 - MOMENTUM), now + math.log(MOMENTUM)))
            weight = (marginal.detach().flatten(1) - self.log_ema.unsqueeze(1)).exp()  # (P, number of marginal pairs)
            surrogate = joint.mean(1) - (weight * marginal.flatten(1)).mean(1)  # its gradient is meant, not its value
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


def mean_over_ranks(tensors) -> list[Tensor]:
    """Whatever estimators learn or decide by passes through here, and so is the same on every rank, bit for bit."""
    tensors = [tensor.contiguous() for tensor in tensors]
    if dist.is_available() and dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)
            tensor /= dist.get_world_size()
    return tensors


def large_enough(batch) -> bool:
    """Whether this micro-batch allows an estimate on every rank. (Ranks differ by a row, and some have a borrowed
    one; if one of them skipped a step of the estimators alone, the others would wait for it.)"""
    rows = len(batch)
    if dist.is_available() and dist.is_initialized():
        fewest = torch.tensor(rows, device=batch.input_ids.device)
        dist.all_reduce(fewest, dist.ReduceOp.MIN)
        rows = int(fewest)
    return rows >= SMALLEST_BATCH


def check_hyper_parameters(method) -> None:
    """Raises ValueError naming the hyper-parameter that is out of range."""
    check_not_negative(method, "weight")
    if not 0 < method.phi_lr < float("inf"):
        raise ValueError(f"phi_lr must be a number above 0, not {method.phi_lr}")
    check_at_least_one(method, "hidden", "ascents")
    if method.proj_dim is not None and method.proj_dim < 1:
        raise ValueError(f"proj_dim must be none or at least 1, not {method.proj_dim}")
    if method.marginals not in MARGINALS:
        raise ValueError(f"marginals must be all_pairs or permute, not {method.marginals}")
    if getattr(method, "mode", "abs") not in DISTANCES:
        raise ValueError(f"mode must be one of {', '.join(DISTANCES)}, not {method.mode}")


def make_estimators(option: str, method, model, pairs: list[tuple[int, int]], variables: int) -> nn.ModuleDict:
    """Estimators for each of the model's tasks."""
    if not pairs:
        raise InputError(f"--option {option} compares layers, and the model has one")
    width = model.bert.config.hidden_size
    shape = variables, width, method.proj_dim, method.hidden, method.marginals
    return nn.ModuleDict({task.name: Estimators(pairs, *shape) for task in model.tasks})


def first_stage(option: str, tasks: nn.ModuleDict, model, batches, states, lr: float) -> None:
    """Fit every task's Estimators to the frozen model, and measure their references.

    states(output, batch) -> [B,V,D]. Dropout is on, and each pass over the data draws new masks: the same states
    as in training. Raises InputError where there are too few examples.
    """
    model.train()
    for name, estimators in tasks.items():
        draws = draw(option, estimators, model, lambda: large_batches(batches(name)), states)  # noqa: B023
        fit(estimators, draws, lr)
        if not dist.is_available() or not dist.is_initialized() or dist.get_rank() == 0:
            found, rows = " ".join(f"{value:.2f}" for value in estimators.reference), len(draws[0][0])
            most = f"; {rows} examples show at most {math.log(rows):.2f}" if estimators.marginals == "all_pairs" else ""
            logger.warning("%s: layers of the pretrained model on %s share %s nats%s", option, name, found, most)


def large_batches(batches):
    """Without the batches that are too small for an estimate."""
    return (batch for batch in batches if len(batch) >= SMALLEST_BATCH)


@torch.no_grad()
def draw(option: str, estimators: Estimators, model, batches, states) -> list[list[Tensor]]:
    """[draw][batch] -> projected states [B,V,q], once mean and std are known."""
    count, total, squares, number = 0, 0.0, 0.0, 0
    for batch in batches():
        h = to_float32(states(model(batch), batch))
        total, squares = total + h.sum(0).cpu().double(), squares + h.square().sum(0).cpu().double()
        count, number = count + len(h), number + 1
    if count < FEWEST_EXAMPLES or number < 2:
        raise InputError(
            f"--option {option} needs {FEWEST_EXAMPLES} inputs to train on, in two or more (micro-)batches of at least "
            f"{SMALLEST_BATCH}, not {count} in {number}"
        )
    mean = total / count
    std = (squares / count - mean.square()).clamp(min=1e-10).sqrt()
    mean, std = mean_over_ranks([mean.to(estimators.mean), std.to(estimators.std)])
    estimators.mean.copy_(mean)
    estimators.std.copy_(std)
    draws = max(1, min(DRAWS, ENOUGH // count))
    return [[estimators.project(states(model(batch), batch)) for batch in batches()] for _ in range(draws)]


def fit(estimators: Estimators, draws: list[list[Tensor]], lr: float) -> None:
    """Ascend on nine batches of ten until the bound on the tenth, smoothed, stops to rise: each pair's best
    parameters are kept, and its reference is their bound on the tenth."""
    held_out = [z for batches in draws for z in batches[::10]]
    fitted = [z for batches in draws for k, z in enumerate(batches) if k % 10]
    optimizer = adam(estimators, lr)
    smooth = best = measure(estimators, held_out)
    stale, kept = 0, {name: value.clone() for name, value in estimators.state_dict().items()}
    for step in range(1, STEPS + 1):
        estimators.ascend(fitted[int(torch.randint(len(fitted), ()))], optimizer)
        if step % EVERY == 0:
            smooth = (smooth + measure(estimators, held_out)) / 2
            better = smooth > best
            for name in (*dict(estimators.named_parameters()), "log_ema"):
                kept[name][better] = estimators.state_dict()[name][better]
            best, stale = torch.where(better, smooth, best), 0 if better.any() else stale + 1
            if stale == PATIENCE:
                break
    estimators.load_state_dict(kept)
    estimators.reference.copy_(measure(estimators, held_out))


@torch.no_grad()
def measure(estimators: Estimators, batches: list[Tensor]) -> Tensor:
    """Mean bound over the batches [P]"""
    return mean_over_ranks([torch.stack([estimators.estimate(z) for z in batches]).mean(0)])[0]


def adam(module: nn.Module, lr: float) -> torch.optim.Adam:
    return torch.optim.Adam(module.parameters(), lr=lr, weight_decay=1e-4)

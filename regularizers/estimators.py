"""Estimators of mutual information: small networks that learn a bound on it by gradient ascent (MINE).

Mutual Information Neural Estimation.  Belghazi et al. 2018, arXiv:1801.04062v5:
  (§3.1)  I(X,Y) ≥ E_joint[G(x,y)] - log E_marginals[e^G(x,y)] for every network G (Donsker and Varadhan)
  (§3.2)  the gradient of the log is divided by a running mean of E_marginals[e^G]

The bound is tight for the best G, and gradient ascent approaches it. On a batch of B pairs the joint consists of the
B pairs (x_i, y_i). The marginals consist of all B² pairs (x_i, y_j), or of the B pairs (x_i, y_π(i)). With all pairs
the estimate cannot exceed log B for any G: one batch cannot show more information.

P pairs of variables, V variables, B batch, D width, H hidden units of G, q projected width.
"""

import math
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor, nn

from minbert.losses import to_float32

MARGINALS = ("all_pairs", "permute")
MOMENTUM = 0.01  # of the running mean of e^G


class Estimators(nn.Module):
    """G(x,y) = w₂·relu(W_x x + W_y y + b) for P pairs of V variables of width D. (An output bias would cancel.)

    The variables are standardised with the mean and standard deviation that `first_stage` measures. Then
    they are projected to `proj_dim` dimensions. The parameters require a gradient only inside `ascend`, so the model's
    backward pass and DistributedDataParallel ignore them.
    """

    def __init__(self, pairs: list[tuple[int, int]], variables: int, width: int, proj_dim: int | None, hidden: int,
                 marginals: str):  # fmt: skip
        super().__init__()
        self.marginals = marginals
        # Tensors, because an index that is a list would be copied to the device in each pass. Checkpoints do not
        # contain them.
        self.register_buffer("left", torch.tensor([left for left, _ in pairs]), persistent=False)
        self.register_buffer("right", torch.tensor([right for _, right in pairs]), persistent=False)
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
        running mean is the divisor.
        """
        parameters = list(self.parameters())
        self.requires_grad_(True)
        with torch.enable_grad():
            joint, marginal = self.scores(z.detach())
            (now,) = mean_over_ranks([log_mean_exp(marginal).detach()])
            self.log_ema.copy_(torch.logaddexp(self.log_ema + math.log(1 - MOMENTUM), now + math.log(MOMENTUM)))
            weight = (marginal.detach().flatten(1) - self.log_ema.unsqueeze(1)).exp()  # (P, number of marginal pairs)
            surrogate = joint.mean(1) - (weight * marginal.flatten(1)).mean(1)  # only its gradient matters  (§3.2)
            gradients = torch.autograd.grad(-surrogate.sum(), parameters)
        self.requires_grad_(False)
        for p, gradient in zip(parameters, mean_over_ranks(gradients)):
            p.grad = gradient
        optimizer.step()
        optimizer.zero_grad()


def bound(joint: Tensor, marginal: Tensor) -> Tensor:
    """Donsker-Varadhan: E_joint[G] - log E_marginals[e^G], [P]"""
    return joint.mean(1) - log_mean_exp(marginal)  # (§3.1)


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


def adam(module: nn.Module, lr: float) -> torch.optim.Adam:
    """The optimizer of the estimators."""
    return torch.optim.Adam(module.parameters(), lr=lr, weight_decay=1e-4)

"""SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language Models through Principled
Regularized Optimization.  Jiang et al., ACL 2020, arXiv:1911.03437v5.

Idea: a model that fits few examples should not change its answer when its input is moved a little, so the
worst small move of the embeddings is found by gradient ascent and the change it causes is penalised. And no
step should take the model far from where it just was, so its answers are held near those of a slowly moving
average of itself, the teacher.

Objective, (§3.1) and (§3.2), numbered by us (B batch, T tokens, D width; x = embedding output [B,T,D];
f = logits [B,C]):
  (m1)  min_θ  L(θ) + λ_s R_s(θ)
  (m2)  R_s(θ) = 1/n Σ_i max_{‖x̃_i - x_i‖_∞ ≤ ε} ℓ_s(f(x̃_i; θ), f(x_i; θ))
        ℓ_s = KL(P‖Q) + KL(Q‖P) for classes, (p - q)² for regression
  (m3)  θ_{t+1} = argmin_θ F(θ) + μ D(θ, θ̃_t),   D = 1/n Σ_i ℓ_s(f(x_i; θ), f(x_i; θ̃_t))
  (m4)  θ̃_t = (1-β) θ_t + β θ̃_{t-1}
and the maximum of (m2) by Algorithm 1: start at x̃ = x + ν, ν ~ N(0, σ²); T_x̃ times
  (m5)  g̃ = ∇_x̃ ℓ_s / ‖∇_x̃ ℓ_s‖_∞        (m6)  x̃ ← Proj(x̃ + η g̃)

Symbols:  paper   | code          | default      | where
          λ_s     | self.weight   | 1            | (m1)
          ε       | self.eps      | 1e-2, see D1 | (m2)
          σ       | self.sigma    | ε            | Algorithm 1
          η       | self.eta      | 100 ε        | (m6)
          T_x̃     | self.steps    | 1            | Algorithm 1
          μ       | self.mu       | 1            | (m3)
          β       | self.beta     | 0.99, then 0.999 after a tenth of the steps | (m4)

Cost: for each of `steps`, 1 forward and 1 backward to the embeddings; 1 forward from the embeddings and its
part of the joint backward; 1 forward of the teacher; a second copy of θ. All in float32. With dropout="off" one
more forward, of the clean input.

Differences:
  D1  ε is 1e-2; the paper's 1e-5 does nothing. |∇ R_s| / |∇ L| at λ_s = 1, with all-MiniLM-L6-v2 on MRPC, at a
      new head | after one epoch of plain fine-tuning (python -m benchmarks.gradient_share):
          ε            0              1e-5              1e-4              1e-3              1e-2              1e-1
          shared       0      | 0     3.1e-9 | 2.0e-7   3.4e-7 | 2.0e-5   3.5e-5 | .0020    .0033 | .16       .15 | 1.7
          independent  .0094  | .080  .0094  | .080     .0095  | .081     .0097  | .087     .013  | .22       .084 | 1.2
      1e-2 is the largest that leaves the task in the lead once it is learned (at a new head no ε below 1e-1 pulls).
      With shared masks 1e-5 costs three passes for nothing. With independent masks ε = 0 gives the same share
      as 1e-5: all of it is dropout. project="normalize": .0017 | .18 shared, .010 | .24 independent.
  D2  Dropout, on which the paper is silent: the perturbed passes repeat the masks of the clean pass.
      `independent` is what the authors' code (namisan/mt-dnn) does; it penalises dropout noise.
  D3  project="normalize" is what that code computes: each token's step is divided by its largest entry, so
      ‖x̃ - x‖_∞ is about 1 whatever its `epsilon`, which only guards the division. σ and η are then 1e-5, and
      ε is not used.
  D4  The initial noise is clamped into the ball, too; padding is never perturbed.
  D5  ℓ_s has its full gradient. That code detaches one side of each half, which halves it near equality.
  D6  One optimizer step for each proximal problem (m3); the teacher runs without dropout.
  D7  Where the sentences of a pair are encoded separately, the ball is that of the pair, as its ‖·‖_∞ is the larger of
      the two; but the gradient of each sentence is normalised by itself.
"""

import copy

import torch
from torch import Tensor

from regularizers.base import Method, check_not_negative
from regularizers.perturbation import check_dropout, reference, second_pass


class Smart(Method):
    fp32 = True
    neutral = {"weight": 0.0, "mu": 0.0}

    def __init__(
        self,
        *,
        weight: float = 1.0,
        eps: float = 1e-2,  # D1
        sigma: float | None = None,
        eta: float | None = None,
        steps: int = 1,
        project: str = "clamp",
        dropout: str = "shared",
        mu: float = 1.0,
        beta: tuple[float, float] = (0.99, 0.999),
    ):
        super().__init__()
        scale = {"clamp": (eps, 100 * eps), "normalize": (1e-5, 1e-5)}  # D3
        if project not in scale:
            raise ValueError(f"project must be clamp or normalize, not {project}")
        check_dropout(dropout)
        self.weight, self.eps, self.steps, self.project, self.dropout = weight, eps, steps, project, dropout
        self.sigma = scale[project][0] if sigma is None else sigma
        self.eta = scale[project][1] if eta is None else eta
        self.mu, self.beta, self.teacher = mu, beta, None
        check_not_negative(self, "weight", "eps", "sigma", "eta", "steps", "mu")
        if not all(0 <= b <= 1 for b in beta):
            raise ValueError(f"beta must be two numbers from 0 to 1, not {beta}")

    def attach(self, model) -> None:
        if self.mu:
            self.teacher = copy.deepcopy(model).requires_grad_(False).eval()

    def penalty(self, model, batch, clean) -> dict[str, Tensor]:
        terms = {}
        if self.weight:
            terms["smoothness"] = self.weight * self.smoothness(model, batch, clean)  # (m1)
        if self.mu:
            with torch.no_grad():
                teacher = self.teacher(batch).logits  # D6
            terms["proximal"] = self.mu * batch.task.divergence(clean.logits, teacher)  # (m3)
        return terms

    def smoothness(self, model, batch, clean) -> Tensor:
        plain = reference(model, batch, clean, self.dropout)
        x, z = plain.hidden[0], plain.logits
        delta = self.adversary(model, batch, clean, x.detach(), z.detach())
        return batch.task.divergence(second_pass(model, batch, x + delta, clean, self.dropout), z)  # (m2) D2 D5

    def adversary(self, model, batch, clean, x: Tensor, z: Tensor) -> Tensor:
        """The perturbation [B,T,D] that projected gradient ascent finds; no parameter's gradient is touched."""
        real = batch.attention_mask.unsqueeze(-1)  # (B,T,1)
        delta = self.sigma * torch.randn_like(x) * real
        if self.project == "clamp":
            delta = delta.clamp(-self.eps, self.eps)  # D4
        for _ in range(self.steps):
            delta.requires_grad_()
            change = batch.task.divergence(second_pass(model, batch, x + delta, clean, self.dropout), z)
            (gradient,) = torch.autograd.grad(change, delta)
            delta = self.ascend(delta.detach(), gradient) * real
        return delta

    def ascend(self, delta: Tensor, gradient: Tensor) -> Tensor:
        if self.project == "normalize":
            step = delta + self.eta * gradient
            return step / (step.abs().amax(-1, keepdim=True) + 1e-6)  # D3
        gradient = gradient / (gradient.abs().amax((1, 2), keepdim=True) + 1e-12)  # (m5) D7
        return (delta + self.eta * gradient).clamp(-self.eps, self.eps)  # (m6)

    @torch.no_grad()
    def after_step(self, model, progress: float) -> None:
        if self.mu:
            beta = self.beta[0] if progress <= 0.1 else self.beta[1]
            for own, new in zip(self.teacher.parameters(), model.parameters(), strict=True):
                own.lerp_(new, 1 - beta)  # (m4)

    def train(self, mode: bool = True):
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

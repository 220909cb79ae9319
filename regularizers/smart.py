"""SMART: Robust and Efficient Fine-Tuning for Pre-trained Natural Language Models through Principled
Regularized Optimization.  Jiang et al., ACL 2020, arXiv:1911.03437v5.

Idea: a small change of the input should not change the answer. Gradient ascent finds the worst small change of the
embeddings, and the change of the answer that it causes is penalised. A second penalty keeps each step short: it holds
the model's answers near the teacher's answers; the teacher is a moving average of the model itself.

Objective, (§3.1) and (§3.2), numbered by us (B batch, T tokens, D width; x = embedding output [B,T,D];
f = logits [B,C]):
  (m1)  min_θ  L(θ) + λ_s R_s(θ)
  (m2)  R_s(θ) = 1/n Σ_i max_{‖x̃_i - x_i‖_∞ ≤ ε} ℓ_s(f(x̃_i; θ), f(x_i; θ))
        ℓ_s = KL(P‖Q) + KL(Q‖P) for classes, (p - q)² for regression
  (m3)  θ_{t+1} = argmin_θ F(θ) + μ D(θ, θ̃_t),   D = 1/n Σ_i ℓ_s(f(x_i; θ), f(x_i; θ̃_t))
  (m4)  θ̃_t = (1-β) θ_t + β θ̃_{t-1}
and the maximum of (m2) by Algorithm 1: start at x̃ = x + ν, ν ~ N(0, σ²); T_x̃ times
  (m5)  g̃ = ∇_x̃ ℓ_s / ‖∇_x̃ ℓ_s‖_∞        (m6)  x̃ ← Proj(x̃ + η g̃)

Symbols:  paper   | code           | default      | the paper's | where
          λ_s     | self.weight    | 1            | 1, 3 or 5   | (m1)
          ε       | self.eps       | 1e-2, see D1 | 1e-5        | (m2)
          σ       | self.sigma     | ε            | 1e-5        | Algorithm 1
          η       | self.eta       | 100 ε        | 1e-3        | (m6)
          T_x̃     | self.steps     | 1            | 1           | Algorithm 1
          μ       | self.mu        | 1            | 1           | (m3)
          β       | self.half_life | 0.05 of the run, see D8 | self.beta = 0.99, then 0.999 after a tenth | (m4)

Cost: 1 forward and 1 backward to the embeddings for each of `steps`; 1 forward from the embeddings and its part of the
joint backward; 1 forward of the teacher; a second copy of θ. With dropout="off" one more forward, of the clean input.
All passes run in float32.

Differences:
  D1  ε is 1e-2; the paper's 1e-5 does nothing. |∇ R_s| / |∇ L| at λ_s = 1, with all-MiniLM-L6-v2 on MRPC, at a
      new head | after one epoch of plain fine-tuning (python -m benchmarks.gradient_share):
          ε            0              1e-5              1e-4              1e-3              1e-2              1e-1
          shared       0      | 0     3.1e-9 | 2.0e-7   3.4e-7 | 2.0e-5   3.4e-5 | .0020    .0033 | .16       .15 | 1.5
          independent  .0094  | .080  .0094  | .080     .0095  | .081     .0097  | .087     .013  | .22       .084 | 1.2
      (The second row was measured before the ascent used the sum of the batch. The first one hardly changed.) 1e-2 is
      the largest ε at which the task's gradient is still the larger one after an epoch (at a new head it
      is .3 % of the task's). With shared masks 1e-5 costs three passes for nothing. With independent masks ε = 0
      gives the same share as 1e-5: all of it is dropout. project="normalize": .0019 | .18 shared, .010 | .24
      independent. On the sample's trained BERT (tests/regularizers/test_not_inert.py), smoothness and proximal term:
      .4 and 1.1 on RTE, .1 and .2 on STS-B.
  D2  The paper does not mention dropout. Here the perturbed passes repeat the masks of the clean pass. The authors'
      code draws new ones (`independent`, here for everything above the embeddings), which penalises dropout noise.
  D3  project="normalize" is the projection of that code (namisan/mt-dnn, commit 3228e7c): it divides each token's step
      by the largest entry of the step. Its `epsilon` only guards this division, so ‖x̃ - x‖_∞ is about 1 for every
      value of it. σ and η are 1e-5 there, and ε is not used. That is random noise of norm 1: the cosine of the
      perturbation and its random start is above .9999999. The rest of that code is not repeated here: its ascent
      uses a divergence that is not symmetric, padding gets noise, and the perturbed vectors are embedded a second time
      (positions and LayerNorm), which alone changes the answers as much as the noise does: a symmetric KL of .0015
      each, with all-MiniLM-L6-v2 after an epoch on MRPC (python -m benchmarks.smart_ascent).
  D4  The initial noise is clamped into the ball, too. Padding is never perturbed.
  D5  ℓ_s has its full gradient. That code detaches one side of each half, which halves the gradient near equality.
  D6  There is one optimizer step for each proximal problem (m3). The teacher runs without dropout.
  D7  Where the sentences of a pair are encoded separately, the ball is that of the pair: the ‖·‖_∞ of a pair is the
      larger one of its two sentences. But the gradient of each sentence is normalised by itself.
  D8  The teacher's β is 2^(-1 / (half_life · number of steps)): its half-life is a share of the run. With the paper's
      β, which suit runs of 10,000 steps and more, the teacher of a short run is the untrained model: it holds .64 of
      θ₀ after 234 steps. In a regression (m3) is then a pull to 0, which halves the predictions.
      `beta=0.99,0.999` is the paper's.
"""

import copy

import torch
from torch import Tensor

from minbert.classifier import Output, SentenceModel
from minbert.task import Batch
from regularizers.base import Method, check_choice, check_not_negative
from regularizers.perturbation import DROPOUT_MODES, draw_noise, reference, second_pass


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
        half_life: float | None = None,  # D8
        beta: tuple[float, float] | None = None,
    ):
        super().__init__()
        default_sigma, default_eta = (eps, 100 * eps) if project == "clamp" else (1e-5, 1e-5)  # D3
        self.weight, self.eps, self.steps, self.project, self.dropout = weight, eps, steps, project, dropout
        self.sigma = default_sigma if sigma is None else sigma
        self.eta = default_eta if eta is None else eta
        self.mu, self.beta = mu, beta
        self.half_life = 0.05 if half_life is None else half_life
        self.teacher: SentenceModel | None = None
        self.steps_done, self.start_share = 0.0, 1.0  # the second: the share of θ₀ that the teacher still holds
        check_not_negative(self, "weight", "eps", "sigma", "eta", "steps", "mu", "half_life")
        check_choice(self, "project", ("clamp", "normalize"))
        check_choice(self, "dropout", DROPOUT_MODES)
        if beta is not None and half_life is not None:
            raise ValueError("half_life and beta both say how fast the teacher follows: set one of them")
        if beta is not None and not all(0 <= b <= 1 for b in beta):
            raise ValueError(f"beta must be two numbers from 0 to 1, not {beta}")

    def attach(self, model: SentenceModel) -> None:
        if self.mu:
            # A submodule of the method, so that checkpoints hold it.
            self.teacher = copy.deepcopy(model).requires_grad_(False).eval()

    def penalty(self, model: SentenceModel, batch: Batch, clean: Output) -> dict[str, Tensor]:
        terms = {}
        if self.weight:
            terms["smoothness"] = self.weight * self.smoothness(model, batch, clean)  # (m1)
        if self.mu:
            with torch.no_grad():
                teacher = self.teacher(batch).logits  # D6
            terms["proximal"] = self.mu * batch.task.divergence(clean.logits, teacher)  # (m3)
        return terms

    def smoothness(self, model: SentenceModel, batch: Batch, clean: Output) -> Tensor:
        """R_s (m2) of the batch, without its weight."""
        plain = reference(model, batch, clean, self.dropout)
        x, z = plain.hidden[0], plain.logits
        delta = self.adversary(model, batch, clean, x.detach(), z.detach())
        return batch.task.divergence(second_pass(model, batch, x + delta, clean, self.dropout), z)  # (m2) D2 D5

    def adversary(self, model: SentenceModel, batch: Batch, clean: Output, x: Tensor, z: Tensor) -> Tensor:
        """The perturbation [B,T,D] that projected gradient ascent finds from x [B,T,D], whose logits are z [B,C].

        The gradient of the parameters is not touched.
        """
        real = batch.attention_mask.unsqueeze(-1)  # (B,T,1)
        delta = self.sigma * draw_noise(x, batch.attention_mask)
        if self.project == "clamp":
            delta = delta.clamp(-self.eps, self.eps)  # D4
        for _ in range(self.steps):
            delta.requires_grad_()
            change = batch.task.divergence(second_pass(model, batch, x + delta, clean, self.dropout), z)
            change = change * len(batch)  # the sum: the step of an example must not depend on the size of its batch
            (gradient,) = torch.autograd.grad(change, delta)
            delta = self.ascend(delta.detach(), gradient) * real
        return delta

    def ascend(self, delta: Tensor, gradient: Tensor) -> Tensor:
        """One step of gradient ascent from delta [B,T,D], and the projection."""
        if self.project == "normalize":
            step = delta + self.eta * gradient
            return step / (step.abs().amax(-1, keepdim=True) + 1e-6)  # D3
        gradient = gradient / (gradient.abs().amax((1, 2), keepdim=True) + 1e-30)  # (m5) D7
        return (delta + self.eta * gradient).clamp(-self.eps, self.eps)  # (m6)

    @torch.no_grad()
    def after_step(self, model: SentenceModel, progress: float) -> None:
        if self.mu:
            self.steps_done += 1
            beta = self.momentum(progress)
            torch._foreach_lerp_(list(self.teacher.parameters()), list(model.parameters()), 1 - beta)  # (m4)
            self.start_share *= beta

    def momentum(self, progress: float) -> float:
        """β of this step (m4)."""
        if self.beta is not None:
            return self.beta[0] if progress <= 0.1 else self.beta[1]
        # One step is progress / steps_done of the run. A half-life of 0 is a teacher without memory.
        return 0.5 ** (progress / self.steps_done / self.half_life) if self.half_life else 0.0

    def report(self) -> dict[str, float]:
        return {"start_in_teacher": self.start_share} if self.mu else {}

    # Checkpoints hold the state that these two exchange: a resumed run goes on with the same numbers.

    def get_extra_state(self) -> Tensor:
        return torch.tensor([self.steps_done, self.start_share], dtype=torch.float64)

    def set_extra_state(self, state: Tensor) -> None:
        self.steps_done, self.start_share = state.tolist()

    def train(self, mode: bool = True) -> "Smart":
        super().train(mode)  # the teacher is a submodule: it would go into train mode too
        if self.teacher is not None:
            self.teacher.eval()
        return self

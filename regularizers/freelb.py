"""FreeLB: Enhanced Adversarial Training for Natural Language Understanding.  Zhu et al., ICLR 2020,
arXiv:1909.11764v5.

Idea: a model trained on the worst small perturbations of its input has flatter minima and generalises better. Each
step of the ascent to such a perturbation computes a gradient of the input, and the gradient of the weights comes
with it for free. So the gradients of all K steps are averaged and used: a large batch of ever worse copies.

Objective (X token vectors [B,T,E], δ their perturbation, f logits; Algorithm 1, its lines numbered by us):
  (m1)  min_θ  1/K Σ_{t<K} L(f(X + δ_t; θ), y),   its gradient 1/K Σ_{t<K} ∇_θ L(f(X + δ_t; θ), y) with δ_t fixed
  (m2)  δ_0 = U(-ε, ε) / √N,   N = the number of entries of δ
  (m3)  δ_{t+1} = Π(δ_t + α g / ‖g‖_F),   g = ∇_δ L(f(X + δ_t; θ), y),   Π onto ‖δ‖_F ≤ ε

Symbols:  paper | code       | default      | where
          ε     | self.eps   | 0.3, see D1  | (m2) (m3)
          α     | self.alpha | 0.1          | (m3)
          K     | self.steps | 3            | (m1)

Cost: K forward, embeddings included, and K backward in place of one; the clean pass is computed, but not used. Two
more gradients of θ in memory, whatever K is. In float32. |∇ (m1) - ∇ L| / |∇ L| on the trained sample model
(tests/regularizers/test_not_inert.py): about .9 on RTE, .07 on STS-B.

Differences:
  D1  The paper tunes ε and α for each task. In the authors' code the magnitude of δ_0 and the radius of the ball are
      two settings, here one ε as in the paper; α = 0.1 and K = 3 are in the range of its scripts.
  D2  δ, ε and N are those of one example, as in that code. N counts real tokens only, and padding is not perturbed.
  D3  All K passes have the dropout masks of the clean pass, as section 3.3 wants it.
  D4  Where the sentences of a pair are encoded separately, each sentence has a ball of its own.
"""

import torch
from torch import Tensor

from minbert.classifier import Output, SentenceModel
from minbert.task import Batch
from regularizers.base import Method, carry_gradient, check_at_least_one, check_not_negative
from regularizers.perturbation import draw_noise, like_words, second_pass_from_words


class FreeLB(Method):
    fp32 = True
    neutral = {"eps": 0.0}

    def __init__(self, *, eps: float = 0.3, alpha: float = 0.1, steps: int = 3):  # D1
        super().__init__()
        self.eps, self.alpha, self.steps = eps, alpha, steps
        check_not_negative(self, "eps", "alpha")
        check_at_least_one(self, "steps")

    def loss(self, model: SentenceModel, batch: Batch, clean: Output) -> Tensor:
        """The mean of the K losses. Its gradient is computed here, and carried by a zero."""
        if not self.eps:
            return super().loss(model, batch, clean)
        parameters = [p for p in model.parameters() if p.requires_grad]
        sums: list[Tensor | None] = [None] * len(parameters)
        delta, total = self.start(like_words(model, clean.hidden[0]), batch), 0.0
        for _ in range(self.steps):
            delta.requires_grad_()
            logits = second_pass_from_words(model, batch, delta, clean, dropout="shared")  # D3
            loss = batch.task.loss(logits, batch.labels)
            # One backward pass gives both gradients. A head of another task has none (allow_unused), and keeps none.
            g, *gradients = torch.autograd.grad(loss, [delta, *parameters], allow_unused=True)
            sums = [add(one, other) for one, other in zip(sums, gradients, strict=True)]
            total = total + loss.detach()
            delta = self.ascend(delta.detach(), g)
        mean = [None if s is None else s / self.steps for s in sums]
        return total / self.steps + carry_gradient(parameters, mean)  # (m1)

    def start(self, like: Tensor, batch: Batch) -> Tensor:
        """δ_0 [B,T,E], for token vectors `like` [B,T,E]"""
        entries = batch.attention_mask.sum(1).to(like.dtype) * like.shape[-1]  # N of each example, (B)
        uniform = draw_noise(like, batch.attention_mask, kind="uniform")
        return self.eps * uniform / entries.sqrt()[:, None, None]  # (m2) D2 D4

    def ascend(self, delta: Tensor, g: Tensor) -> Tensor:
        """δ_{t+1} from δ_t and the gradient there, [B,T,E]. (g is 0 on padding, which no logit depends on.)"""
        delta = delta + self.alpha * g / frobenius(g).clamp(min=1e-30)
        return delta * (self.eps / frobenius(delta).clamp(min=1e-30)).clamp(max=1)  # (m3)


def frobenius(x: Tensor) -> Tensor:
    """The norm of each example, [B,T,E] -> [B,1,1]"""
    return torch.linalg.vector_norm(x, dim=(1, 2), keepdim=True)


def add(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    """The sum of two gradients; None stands for no gradient."""
    if one is None or other is None:
        return other if one is None else one
    return one + other

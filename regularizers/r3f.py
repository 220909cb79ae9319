"""R3F and R4F: Better Fine-Tuning by Reducing Representational Collapse.  Aghajanyan et al., ICLR 2021,
arXiv:2008.03156.

Idea: SMART without its ascent. Random noise on the token embeddings is enough of a perturbation; the change of the
answer that it causes is penalised, which keeps each step within a trust region around what the model computes. R4F
also holds the largest singular value of the head at 1, so that the bound on the representations cannot be evaded by
a steep head.

Objective, numbered by us (w token vectors, f logits, W weight of the head):
  (m1)  min_θ  L(f(w)) + λ KL_S(f(w) ‖ f(w + z)),   z ~ U(-ε, ε) or N(0, ε²)
  (m2)  R4F: the head computes with W / s_max(W)
        KL_S = KL(P‖Q) + KL(Q‖P) for classes

Symbols:  paper | code        | default | where
          λ     | self.weight | 1       | (m1)
          ε     | self.eps    | 1e-1, see D1 | (m1)

Cost: 1 forward, embeddings included, and its part of the joint backward; with dropout="off" one more forward. R4F: the
singular values of a small matrix in each pass. In float32.

Differences:
  D1  ε is 1e-1; the official 1e-5 does nothing. |∇ penalty| / |∇ L| at λ = 1, with all-MiniLM-L6-v2 on MRPC, at a new
      head | after one epoch of plain fine-tuning (python -m benchmarks.gradient_share --option r3f):
          ε            0              1e-5              1e-3              1e-2              1e-1
          shared       0      | 0     4.0e-11 | 1.1e-9  4.0e-7 | 1.1e-5   4.0e-5 | .0012    .0054 | .93
          independent  .0099  | .11   .0099   | .11     .0099  | .11      .0099  | .11      .013  | .95
      1e-1 is the largest of these that leaves the task in the lead; it is no small noise: its deviation, .058, is
      that of the token vectors' entries (.056). On the sample's tiny BERT the share is about 1.
  D2  The second pass repeats the masks of the clean pass; `independent`, which penalises dropout noise, is what the
      official code does.
  D3  Regression is penalised by the squared difference; the official code leaves its penalty out there.
  D4  The gradient reaches the embedding table through both passes; the official code detaches the noisy vectors.
      at="embedding" puts the noise on the embedding output instead, where SMART has it. None is on padding.
  D5  The exact s_max of the head's small matrix, by singular values, in place of power iterations.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regularizers.base import Method, check_not_negative
from regularizers.perturbation import check_dropout, masks, reference, second_pass


class R3f(Method):
    fp32 = True
    neutral = {"weight": 0.0}
    kind = "R3F"

    def __init__(
        self,
        *,
        weight: float = 1.0,
        eps: float = 1e-1,  # D1
        noise: str = "uniform",
        at: str = "word",
        dropout: str = "shared",
    ):
        super().__init__()
        self.weight, self.eps, self.noise, self.at, self.dropout = weight, eps, noise, at, dropout
        check_not_negative(self, "weight", "eps")
        check_dropout(dropout)
        if noise not in ("uniform", "normal"):
            raise ValueError(f"noise must be uniform or normal, not {noise}")
        if at not in ("word", "embedding"):
            raise ValueError(f"at must be word or embedding, not {at}")

    def penalty(self, model, batch, clean) -> dict[str, Tensor]:
        if not self.weight:
            return {}
        plain = reference(model, batch, clean, self.dropout)
        noisy = self.noisy_pass(model, batch, plain.hidden[0], clean)
        return {"smoothness": self.weight * batch.task.divergence(plain.logits, noisy)}  # (m1) D3

    def noisy_pass(self, model, batch, h0: Tensor, clean) -> Tensor:
        """Logits [B,C] with noise on the token vectors, or on h0 [B,T,D]."""
        z = self.draw(h0) * batch.attention_mask.unsqueeze(-1)
        if self.at == "embedding":
            return second_pass(model, batch, h0 + z, clean, self.dropout)
        with masks(model, clean.entry, self.dropout):  # D2
            return model.head(model.encode(model.embed(batch, z), batch)[-1], batch)  # D4

    def draw(self, like: Tensor) -> Tensor:
        if self.noise == "normal":
            return self.eps * torch.randn_like(like)
        return self.eps * (2 * torch.rand_like(like) - 1)


class R4f(R3f):
    inserts = True
    neutral = None

    def undecayed(self, model) -> tuple[Tensor, ...]:
        return tuple(head.direction for head in model.heads.values())  # only its direction counts

    def attach(self, model) -> None:
        for name, head in model.heads.items():
            model.heads[name] = SpectralLinear(head)


class SpectralLinear(nn.Module):
    """A linear layer whose weight has the largest singular value 1. `weight` is what it computes with, and what is
    saved; what is trained is `direction`."""

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.direction, self.bias = linear.weight, linear.bias

    @property
    def weight(self) -> Tensor:
        return self.direction / torch.linalg.matrix_norm(self.direction, 2)  # (m2) D5

    def forward(self, x: Tensor) -> Tensor:
        """[B,D] -> [B,C]"""
        return F.linear(x, self.weight, self.bias)

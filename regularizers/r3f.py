"""R3F and R4F: Better Fine-Tuning by Reducing Representational Collapse.  Aghajanyan et al., ICLR 2021,
arXiv:2008.03156.

Idea: SMART without its ascent. A second pass has random noise on the token embeddings, and the change of the answer is
penalised. This keeps each step within a trust region around the current model. R4F also holds the largest singular
value of the head at 1: otherwise a steep head could evade the bound on the representations.

Objective, numbered by us (w token vectors, f logits, W weight of the head):
  (m1)  min_θ  L(f(w)) + λ KL_S(f(w) ‖ f(w + z)),   z ~ U(-ε, ε) or N(0, ε²)
  (m2)  R4F: the head computes with W / s_max(W)
        KL_S = KL(P‖Q) + KL(Q‖P) for classes

Symbols:  paper | code        | default | where
          λ     | self.weight | 1       | (m1)
          ε     | self.eps    | 1e-1, see D1 | (m1)

Cost: 1 forward from the token embeddings, and its part of the joint backward. With dropout="off" one more forward. R4F
computes the singular values of a small matrix in each pass. All passes run in float32.

Differences:
  D1  ε is 1e-1; the official 1e-5 does nothing. |∇ penalty| / |∇ L| at λ = 1, with all-MiniLM-L6-v2 on MRPC, at a new
      head | after one epoch of plain fine-tuning (python -m benchmarks.gradient_share --option r3f):
          ε            0              1e-5              1e-3              1e-2              1e-1
          shared       0      | 0     4.0e-11 | 1.1e-9  4.0e-7 | 1.1e-5   4.0e-5 | .0012    .0054 | .93
          independent  .0099  | .11   .0099   | .11     .0099  | .11      .0099  | .11      .013  | .95
      1e-1 is the largest of these values at which the task's gradient is still the larger one. It is not a small
      noise: its standard deviation, .058, equals that of the token vectors' entries (.056). On the sample's tiny BERT
      the share is about 1.
  D2  The second pass repeats the masks of the clean pass. The official code draws new masks (`independent`), which
      penalises dropout noise.
  D3  For regression the penalty is the squared difference. The official code has no penalty there.
  D4  The gradient reaches the embedding table through both passes. The official code detaches the noisy vectors.
      at="embedding" puts the noise on the embedding output instead, where SMART has it. Padding gets no noise.
  D5  The paper asks for s_max(W) ≤ 1, an upper bound. The official code divides by s_max, so that it is always 1, and
      so does this file. s_max is exact, from the singular values of the head's small matrix; the official code uses
      power iterations.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minbert.classifier import Output, SentenceModel
from minbert.task import Batch
from regularizers.base import Method, check_choice, check_not_negative
from regularizers.perturbation import (
    DROPOUT_MODES,
    NOISE,
    draw_noise,
    like_words,
    reference,
    second_pass,
    second_pass_from_words,
)


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
        check_choice(self, "noise", NOISE)
        check_choice(self, "at", ("word", "embedding"))
        check_choice(self, "dropout", DROPOUT_MODES)

    def penalty(self, model: SentenceModel, batch: Batch, clean: Output) -> dict[str, Tensor]:
        if not self.weight:
            return {}
        plain = reference(model, batch, clean, self.dropout)
        noisy = self.noisy_pass(model, batch, plain.hidden[0], clean)
        return {"smoothness": self.weight * batch.task.divergence(plain.logits, noisy)}  # (m1) D3

    def noisy_pass(self, model: SentenceModel, batch: Batch, h0: Tensor, clean: Output) -> Tensor:
        """Logits [B,C] with noise on the token vectors, or on the embedding output h0 [B,T,D]."""
        if self.at == "embedding":
            z = self.eps * draw_noise(h0, batch.attention_mask, self.noise)
            return second_pass(model, batch, h0 + z, clean, self.dropout)
        z = self.eps * draw_noise(like_words(model, h0), batch.attention_mask, self.noise)
        return second_pass_from_words(model, batch, z, clean, self.dropout)  # D2 D4


class R4f(R3f):
    inserts = True
    neutral = None

    def attach(self, model: SentenceModel) -> None:
        for name, head in model.heads.items():
            model.heads[name] = SpectralLinear(head)

    def undecayed(self, model: SentenceModel) -> tuple[Tensor, ...]:
        # Decay would shrink the parameter, and its length has no effect: the layer divides by it.
        return tuple(head.direction for head in model.heads.values())


class SpectralLinear(nn.Module):
    """A linear layer whose weight has the largest singular value 1.

    The parameter `direction` trains. `weight` is computed from it; the layer uses `weight`, and files hold it.
    """

    scale_free = ("direction",)  # its length has no effect, so no penalty on weights may see it

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.direction, self.bias = linear.weight, linear.bias

    @property
    def weight(self) -> Tensor:
        return self.direction / torch.linalg.matrix_norm(self.direction, 2)  # (m2) D5

    def forward(self, x: Tensor) -> Tensor:
        """[B,D] -> [B,C]"""
        return F.linear(x, self.weight, self.bias)

"""LNSR: Noise Stability Regularization for Improving BERT Fine-tuning.  Hua et al., NAACL 2021, arXiv:2107.04835.

Idea: in networks that generalise well, noise on a layer's input dies out on its way up. So noise is put on the input
of one layer, and how far it moves the output of that layer and of all above is penalised. Nothing pulls the logits
themselves.

Objective (x^b input of layer b, f^{b,r} the layers b to r, L layers):
  (1)  min_θ  E[L(f(x; θ), y) + R(θ)]
  (2)  R(θ) = Σ_{r=b..L} λ^{b,r} ‖f^{b,r}(x^b + ε) - f^{b,r}(x^b)‖²,   ε_i ~ N(0, σ²)

Symbols:  paper   | code          | default | where
          λ^{b,r} | self.weight   | 1, for all r  | (2)
          b       | self.layer    | 1, the embedding output | (2)
          σ       | self.sigma    | 1.5e-2, see D2 | (2)

Cost: the layers b to L once more, forward and backward; with dropout="off" one more forward. In float32.

Differences:
  D1  The norm, of which the paper does not say over what: the mean over real tokens of the squared length over D
      (reduction="token"). "sum" adds up all tokens, as (2) reads: it grows with the length of the text.
  D2  σ is not given. |∇ R| / |∇ L| at a new head | after one epoch of plain fine-tuning, all-MiniLM-L6-v2 on MRPC
      (python -m benchmarks.gradient_share --option lnsr), grows as σ²:
          σ            0          1e-5              1e-4              1e-3              1e-2            1e-1
          shared       0    | 0   3.2e-7 | 2.5e-7   3.2e-5 | 2.5e-5   .0032 | .0025     .32 | .24       32 | 24
          independent  370  | 500 at every σ: dropout noise, hundreds of times the task
      so that σ = 1.5e-2 is about .7 | .5; on the sample's tiny BERT it is .02. noise="relative" scales each token's
      noise to 5 % (`relative`) of the token's own length, the size in the paper's Figure 1: 2.3 | 1.7.
  D3  Dropout, on which the paper is silent, decides everything: the noisy pass repeats the masks of the clean one.
      `independent` is what two plain calls of a model do.
  D4  The gradient flows through both sides of the difference; padding gets no noise and does not count.
"""

import torch
from torch import Tensor

from regularizers.base import HIDDEN_STATES, Method, check_layer, check_not_negative
from regularizers.perturbation import check_dropout, masks, reference


class Lnsr(Method):
    fp32 = True
    neutral = {"weight": 0.0}
    needs = (HIDDEN_STATES,)

    def __init__(
        self,
        *,
        weight: float = 1.0,
        layer: int = 1,
        sigma: float = 1.5e-2,  # D2
        noise: str = "absolute",
        relative: float = 0.05,
        reduction: str = "token",
        dropout: str = "shared",
    ):
        super().__init__()
        self.weight, self.layer, self.sigma, self.noise = weight, layer, sigma, noise
        self.relative, self.reduction, self.dropout = relative, reduction, dropout
        check_not_negative(self, "weight", "sigma", "relative")
        check_dropout(dropout)
        if noise not in ("absolute", "relative"):
            raise ValueError(f"noise must be absolute or relative, not {noise}")
        if reduction not in ("token", "sum"):
            raise ValueError(f"reduction must be token or sum, not {reduction}")

    def attach(self, model) -> None:
        check_layer(self.layer, model)

    def penalty(self, model, batch, clean) -> dict[str, Tensor]:
        if not self.weight:
            return {}
        plain, before = reference(model, batch, clean, self.dropout), self.layer - 1
        x = plain.hidden[before]
        noisy_x = x + self.draw(x.detach(), batch)
        with masks(model, clean.rng[before], self.dropout):  # D3
            noisy = model.encode(noisy_x, batch, start=before)
        layers = zip(noisy, plain.hidden[self.layer :], strict=True)
        return {"stability": self.weight * sum(self.distance(h, h0, batch) for h, h0 in layers)}  # (1) (2)

    def draw(self, x: Tensor, batch) -> Tensor:
        """Noise [B,T,D] for x [B,T,D], none on padding."""
        noise = torch.randn_like(x) * batch.attention_mask.unsqueeze(-1)  # D4
        if self.noise == "absolute":
            return self.sigma * noise
        lengths = x.norm(dim=-1, keepdim=True) / noise.norm(dim=-1, keepdim=True).clamp(min=1e-12)
        return self.relative * lengths * noise

    def distance(self, h: Tensor, h0: Tensor, batch) -> Tensor:
        """[B,T,D] twice -> a number, the mean over the batch."""
        real = batch.attention_mask.to(h.dtype)
        squares = (h - h0).square().sum(-1) * real  # (B,T,D) -> (B,T)
        if self.reduction == "token":
            squares = squares / real.sum(-1, keepdim=True)  # D1
        return squares.sum(-1).mean()

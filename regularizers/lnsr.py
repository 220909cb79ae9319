"""LNSR: Noise Stability Regularization for Improving BERT Fine-tuning.  Hua et al., NAACL 2021, arXiv:2107.04835.

Idea: in networks that generalise well, noise on the input of a layer becomes weaker in the layers above. So a second
pass has noise on the input of one layer. The penalty is the distance that this noise moves the output of that layer and
of each layer above. The logits are not part of the penalty.

Objective (x^b input of layer b, f^{b,r} the layers b to r, L layers):
  (1)  min_θ  E[L(f(x; θ), y) + R(θ)]
  (2)  R(θ) = Σ_{r=b..L} λ^{b,r} ‖f^{b,r}(x^b + ε) - f^{b,r}(x^b)‖²,   ε_i ~ N(0, σ²)

Symbols:  paper   | code          | default | where
          λ^{b,r} | self.weight   | 1, for all r  | (2)
          b       | self.layer    | 1, the embedding output | (2)
          σ       | self.sigma    | 1.5e-2, see D2 | (2)

Cost: the layers b to L run once more, forward and backward. With dropout="off" one more forward. All passes run in
float32.

Differences:
  D1  The paper does not say over which dimensions the norm is. Here it is the squared length over D, and its mean over
      the real tokens (reduction="token"). reduction="sum" adds all tokens, as (2) reads, and grows with the length of
      the text.
  D2  σ is not given. |∇ R| / |∇ L| at a new head | after one epoch of plain fine-tuning, all-MiniLM-L6-v2 on MRPC
      (python -m benchmarks.gradient_share --option lnsr), grows as σ²:
          σ            0          1e-5              1e-4              1e-3              1e-2            1e-1
          shared       0    | 0   3.2e-7 | 2.5e-7   3.2e-5 | 2.5e-5   .0032 | .0025     .32 | .24       32 | 24
          independent  370  | 500 at every σ: dropout noise, hundreds of times the task
      So σ = 1.5e-2 gives about .7 | .5; on the sample's trained BERT
      (tests/regularizers/test_not_inert.py) .02 on RTE and .04 on STS-B. noise="relative" scales each token's
      noise to 5 % (`relative`) of the token's own length, the size in the paper's Figure 1: 2.3 | 1.7.
  D3  The paper does not mention dropout, which decides the result. Here the noisy pass repeats the masks of the clean
      pass. `independent` draws new masks from layer b on. (Two plain calls of a model would also redraw those below.)
  D4  The gradient flows through both sides of the difference. Padding gets no noise and does not count.
  D5  The paper trains without Adam's bias correction. Here it is on: --no-bias-correction turns it off.
"""

from torch import Tensor

from minbert.classifier import Output, SentenceModel
from minbert.task import Batch
from regularizers.base import HIDDEN_STATES, Method, check_choice, check_layer, check_not_negative
from regularizers.perturbation import (
    DROPOUT_MODES,
    SIZES,
    check_size_is_used,
    reference,
    scaled_noise,
    second_pass_from_layer,
)


class Lnsr(Method):  # D5: it has the run's optimizer
    fp32 = True
    neutral = {"weight": 0.0}
    needs = (HIDDEN_STATES,)

    def __init__(
        self,
        *,
        weight: float = 1.0,
        layer: int = 1,
        sigma: float | None = None,  # D2
        noise: str = "absolute",
        relative: float | None = None,
        reduction: str = "token",
        dropout: str = "shared",
    ):
        super().__init__()
        self.weight, self.layer, self.noise = weight, layer, noise
        self.reduction, self.dropout = reduction, dropout
        self.sigma = 1.5e-2 if sigma is None else sigma
        self.relative = 0.05 if relative is None else relative
        check_not_negative(self, "weight", "sigma", "relative")
        check_choice(self, "noise", SIZES)
        check_size_is_used(noise, sigma, relative)
        check_choice(self, "reduction", ("token", "sum"))
        check_choice(self, "dropout", DROPOUT_MODES)

    def attach(self, model: SentenceModel) -> None:
        check_layer(self.layer, model)

    def penalty(self, model: SentenceModel, batch: Batch, clean: Output) -> dict[str, Tensor]:
        if not self.weight:
            return {}
        plain, start = reference(model, batch, clean, self.dropout), self.layer - 1
        x = plain.hidden[start]
        noisy_x = x + scaled_noise(x, batch.attention_mask, self.noise, self.sigma, self.relative)  # D4
        noisy = second_pass_from_layer(model, batch, noisy_x, start, clean, self.dropout)  # D3
        layers = zip(noisy, plain.hidden[self.layer :], strict=True)
        return {"stability": self.weight * sum(self.distance(h, h0, batch) for h, h0 in layers)}  # (1) (2)

    def distance(self, h: Tensor, h0: Tensor, batch: Batch) -> Tensor:
        """Two outputs of one layer, [B,T,D] each -> a scalar, the mean over the batch."""
        real = batch.attention_mask.to(h.dtype)
        squares = (h - h0).square().sum(-1) * real  # (B,T,D) -> (B,T)
        if self.reduction == "token":
            squares = squares / real.sum(-1, keepdim=True)  # D1
        return squares.sum(-1).mean()

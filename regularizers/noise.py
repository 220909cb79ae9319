"""FT+Noise, the baseline of LNSR's ablation (section 5.1): noise without a penalty.  Noise Stability Regularization for
Improving BERT Fine-tuning.  Hua et al., NAACL 2021, arXiv:2107.04835.

Idea: noise works as data augmentation too. This method shows how much of LNSR's gain comes from noise alone. It puts
noise on the input of one layer in the clean pass of training, and adds no penalty.

Objective (x^b input of layer b):
  (m1)  min_θ  E[L(f(x^b + ε; θ), y)],   ε_i ~ N(0, σ²)

Symbols:  paper | code       | default | where
          b     | self.layer | 1, the embedding output | (m1)
          σ     | self.relative | 0.2 of the root mean square of the token's entries, see D2 | (m1)
          σ     | self.sigma | with noise="absolute": 1.5e-2, as in lnsr.py | (m1)

Cost: no extra pass; only the noise is drawn. All passes run in float32.

Differences:
  D1  The noise is on a layer's input. The paper says that it is on the output of the layer below. Padding gets no
      noise, and there is none in evaluation.
  D2  σ is not given. Here it is a share of the size of the entries, which differs between models (`relative`).
      |∇L(noisy) - ∇L| / |∇L| with the same dropout masks, at a new head | after one epoch of plain fine-tuning,
      all-MiniLM-L6-v2 on MRPC (python -m benchmarks.gradient_share --option noise). The standard deviation of the
      entries is .504 there, so σ = 1.5e-2 is 3 % of it:
          relative   .05           .1            .2            .3            .5
                     .016 | .045   .032 | .090   .065 | .19    .099 | .30    .17 | .60
          σ          1.5e-2        5e-2          .1            .2            .5
                     .008 | .025   .028 | .083   .056 | .17    .14  | .40    .33 | 1.4
      The default .2 is chosen by these shares, not by scores. The sample's tiny BERT has .19 | .27 on RTE, .06 | .05 on
      STS-B at .2. Its dev scores do not tell the sizes apart. RTE, 500 examples, mean of seeds 0 to 4 in float32: no
      noise .781 (standard deviation .012), σ = 1.5e-2 .793, relative .05 .790, .1 .788, .2 .787, .3 .787, .5 .776.
      STS-B, seeds 0 to 5: no noise .469 (.093), .2 .447 (.104).
"""

from torch import Tensor, nn

from minbert.classifier import SentenceModel
from regularizers.base import Method, Wrapper, check_choice, check_layer, check_not_negative
from regularizers.perturbation import SIZES, check_size_is_used, scaled_noise


class Noise(Method):
    fp32 = True
    inserts = True
    neutral = {"relative": 0.0}

    def __init__(
        self, *, layer: int = 1, noise: str = "relative", sigma: float | None = None, relative: float | None = None
    ):
        super().__init__()
        self.layer, self.noise = layer, noise
        self.sigma = 1.5e-2 if sigma is None else sigma
        self.relative = 0.2 if relative is None else relative  # D2
        check_not_negative(self, "sigma", "relative")
        check_choice(self, "noise", SIZES)
        check_size_is_used(noise, sigma, relative)

    def attach(self, model: SentenceModel) -> None:
        check_layer(self.layer, model)
        size = self.relative if self.noise == "relative" else self.sigma
        if size:
            layers, number = model.bert.layers, self.layer - 1
            layers[number] = NoisyInput(self.noise, self.sigma, self.relative).wrap(layers[number])


class NoisyInput(Wrapper):
    """A layer whose input is noisy in training."""

    nesting_order = 9  # outside of every other wrapper of the layer

    def __init__(self, noise: str, sigma: float, relative: float):
        super().__init__()
        self.noise, self.sigma, self.relative = noise, sigma, relative

    def forward(self, h: Tensor, mask: Tensor, task: str | None = None) -> Tensor:
        """[B,T,D] -> [B,T,D]; mask [B,1,1,T]"""
        if self.training:
            h = h + scaled_noise(h, mask[:, 0, 0], self.noise, self.sigma, self.relative)  # (m1) D1
        return self.base(h, mask, task)

    def merged(self, task: str) -> nn.Module:
        """The layer alone, for minbert.weights.merge: there is no noise in evaluation."""
        return self.base

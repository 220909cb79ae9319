"""FT+Noise, the baseline of LNSR's ablation (section 5.1): noise without a penalty.  Noise Stability Regularization for
Improving BERT Fine-tuning.  Hua et al., NAACL 2021, arXiv:2107.04835.

Idea: if noise alone helped, as augmentation of data does, no penalty would be needed. So the clean pass itself gets
noise on the input of one layer while it trains, and the task loss has to cope.

Objective (x^b input of layer b):
  (m1)  min_θ  E[L(f(x^b + ε; θ), y)],   ε_i ~ N(0, σ²)

Symbols:  paper | code       | default
          b     | self.layer | 1, the embedding output
          σ     | self.sigma | 1.5e-2, as in lnsr.py; not given

Cost: none but the drawing.

Differences:
  D1  The noise is on a layer's input; the paper says output, of the layer below. Padding gets none, and evaluation
      neither.
"""

import torch
from torch import Tensor

from regularizers.base import Method, Wrapper, check_layer, check_not_negative


class Noise(Method):
    fp32 = True
    inserts = True
    neutral = {"sigma": 0.0}

    def __init__(self, *, layer: int = 1, sigma: float = 1.5e-2):
        super().__init__()
        self.layer, self.sigma = layer, sigma
        check_not_negative(self, "sigma")

    def attach(self, model) -> None:
        check_layer(self.layer, model)
        if self.sigma:
            layers, number = model.bert.layers, self.layer - 1
            layers[number] = NoisyInput(self.sigma).wrap(layers[number])


class NoisyInput(Wrapper):
    """A layer whose input is noisy in training."""

    nesting_order = 9  # outside of all else that is around the layer

    def __init__(self, sigma: float):
        super().__init__()
        self.sigma = sigma

    def forward(self, h: Tensor, mask: Tensor, task: str | None = None) -> Tensor:
        """[B,T,D] -> [B,T,D]; mask [B,1,1,T]"""
        if self.training:
            h = h + self.sigma * torch.randn_like(h) * mask[:, 0, 0, :, None]  # (m1) D1
        return self.base(h, mask, task)

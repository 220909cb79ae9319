"""Mixout: Effective Regularization to Finetune Large-scale Pretrained Language Models.  Lee et al., ICLR 2020,
arXiv:1909.11299.

Idea: dropout sets weights to zero at random, which is far from what pretraining has learned. Mixout sets them to their
pretrained values instead. The model learns to work as a mixture of itself and its start, and stays near its start.

Objective, numbered by us (w a weight, u its pretrained value, m a mask of Bernoulli(1-p)):
  (m1)  min_w  E_m[L(Φ(w; u, m))]
  (m2)  Φ(w; u, m) = (m w + (1-m) u - p u) / (1-p) = u + m (w - u) / (1-p),   so that E[Φ] = w

Symbols:  paper | code   | default | where
          p     | self.p | 0.9     | (m2)
          u     | target | the weight at attach | (m2)

Cost: no extra pass; a second copy of the weights, and every pass mixes each of them.

Differences:
  D1  Autograd computes the true gradient of (m2): m / (1-p). The authors' backward leaves 1/(1-p) out, which at p = 0.9
      makes it ten times too small. Adam hides that; clipping, and any other penalty, do not.
  D2  Each input of a linear layer has one mask entry, shared by all outputs, as in the authors' code: all weights that
      leave a neuron are mixed or kept together. mask="element" draws one entry for each weight.
  D3  The weights of all linear layers of encoder and pooler are mixed; biases, head, embeddings and LayerNorms are not.
      The authors' example.py mixes only a linear layer that follows a dropout, and a contributor's
      example_huggingface.py all linear layers, heads too. All dropout except the head's is off, even with --dropout.
  D4  AdamW's decay to zero is off for the mixed weights.
Weights that ALBERT's layers share are mixed anew at each depth, with one start.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minbert.classifier import SentenceModel
from regularizers.base import DROPOUT, WEIGHTS, Method, check_choice, pretrained_ids


class Mixout(Method):
    inserts = True
    neutral = {"p": 0.0}
    needs = (WEIGHTS,)
    freezes = (DROPOUT,)

    def __init__(self, *, p: float = 0.9, mask: str = "neuron"):
        super().__init__()
        self.p, self.mask = p, mask
        if not 0 <= p <= 1:
            raise ValueError(f"p must be from 0 to 1, not {p}")
        check_choice(self, "mask", ("neuron", "element"))

    def attach(self, model: SentenceModel) -> None:
        if not self.p:
            return
        pretrained = pretrained_ids(model)
        for module in list(model.bert.modules()):
            for name, child in module.named_children():
                if isinstance(child, nn.Linear) and id(child.weight) in pretrained:
                    setattr(module, name, MixLinear(child, self.p, self.mask))  # D3
                elif isinstance(child, nn.Dropout):
                    child.p = 0.0

    def undecayed(self, model: SentenceModel) -> tuple[Tensor, ...]:
        return tuple(module.weight for module in model.modules() if isinstance(module, MixLinear))  # D4


class MixLinear(nn.Module):
    """A linear layer that trains with a mixture of its weights and their start. It has the parameters of the layer that
    it replaces, under the same names."""

    def __init__(self, linear: nn.Linear, p: float, mask: str):
        super().__init__()
        self.weight, self.bias, self.p, self.mask = linear.weight, linear.bias, p, mask
        self.register_buffer("target", linear.weight.detach().clone(), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """[*,in] -> [*,out]"""
        return F.linear(x, self.mixed() if self.training else self.weight, self.bias)  # (m1)

    def mixed(self) -> Tensor:
        """Φ(w; u, m) [out,in]"""
        like = self.weight if self.mask == "element" else self.weight[:1]  # D2
        keep = (torch.rand_like(like) >= self.p).to(self.weight.dtype)
        scale = 1 / (1 - self.p) if self.p < 1 else 0.0
        return self.target + keep * (self.weight - self.target) * scale  # (m2) D1

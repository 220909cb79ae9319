"""LHUC: Learning Hidden Unit Contributions for Unsupervised Acoustic Model Adaptation.  Swietojanski, Li and
Renals, IEEE/ACM TASLP 2016, arXiv:1601.02828v2.

Idea: a trained network has more units than a task needs, and not those in the measure it needs them. So each task
turns each unit of each layer up or down by a factor of its own, between 0 and 2, and learns that factor.

Objective: the task loss alone, minimised over r too, a vector [D] for each layer and task; with h [B,T,D] the output
of a layer (numbered by us):
  (m1)  h ← h · 2σ(r)
Weight decay draws r towards 0, the factor towards 1. Adam moves r by about the learning rate a step: at BERT's small
rates the factors stay within a percent or so of 1, and most of what is learned is in BERT. (freeze=true has a larger
rate.)

Symbols:  paper | code         | default         | where
          r     | self.r       | 0, so factor 1  | (m1)
                | self.freezes | freeze=false    | freeze=true: BERT stays as it is, only r and the head train,
                                                   and the default learning rate is that of adapters, 3e-4

Cost: no extra pass; D numbers for each layer and task, 9,216 a task with BERT-base.

Differences:
  D1  The paper scales the units after the non-linearity of fully connected layers, and trains r alone. Here, as in
      Bert-n-Pals (Stickland & Murray 2019), it is the output of each BERT layer, after its last LayerNorm, and BERT
      trains as well. That code scales only TS(h) where there is a PAL too; here it is always the whole layer.
"""

import torch
from torch import Tensor, nn

from regularizers.base import HIDDEN_STATES, WEIGHTS, Method, Wrapper, freeze


class Lhuc(Method):
    inserts = True
    neutral = None
    needs = (HIDDEN_STATES,)

    def __init__(self, *, freeze: bool = False):
        super().__init__()
        self.freezes, self.lr = ((WEIGHTS,), 3e-4) if freeze else ((), None)

    def attach(self, model) -> None:
        if self.freezes:
            freeze(model)
        for number, layer in enumerate(model.bert.layers):
            model.bert.layers[number] = ScaledLayer(model).wrap(layer)  # D1


class ScaledLayer(Wrapper):
    nesting_order = 3

    def __init__(self, model):
        super().__init__()
        self.r = nn.ParameterDict({task.name: torch.zeros(model.bert.config.hidden_size) for task in model.tasks})

    def forward(self, h: Tensor, mask: Tensor, task: str | None = None) -> Tensor:
        return self.base(h, mask, task) * (2 * self.r[task].sigmoid())  # (m1)

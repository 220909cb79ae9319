"""LHUC: Learning Hidden Unit Contributions for Unsupervised Acoustic Model Adaptation.  Swietojanski, Li and
Renals, IEEE/ACM TASLP 2016, arXiv:1601.02828v2.

Idea: a trained network has more units than a task needs, and a task needs some of them more than others. So each task
learns a factor between 0 and 2 for each unit of each layer, and the output of the unit is multiplied by it.

Objective: the task loss alone, minimised over BERT, the head and r, a vector [D] for each layer and task. With
h [B,T,D] the output of a layer (numbered by us):
  (m1)  h ← h · 2σ(r)
Weight decay pulls r towards 0, and so the factor towards 1. Adam moves r by about the learning rate in each step. At
BERT's small rates the factors stay within about one percent of 1, and most of the learning happens in BERT.
(freeze=true has a larger rate.)

Symbols:  paper | code         | default         | where
          r     | self.r       | 0, so factor 1  | (m1)
                | self.freezes | freeze=false    | freeze=true: BERT does not change, only r, the head and a
                                                   fresh pooler train; the default learning rate is that of
                                                   adapters, 3e-4

Cost: no extra pass; D numbers for each layer and task, 9,216 a task with BERT-base.

Differences:
  D1  The paper scales the units after the non-linearity of fully connected layers, and trains r alone. Here the output
      of each BERT layer is scaled, after its last LayerNorm, and BERT trains as well, as in Bert-n-Pals (Stickland &
      Murray 2019). Where there is a PAL too, that code scales only TS(h); here the whole output is always scaled.
In ALBERT, whose layers share their parameters, each depth has factors of its own.
"""

import torch
from torch import Tensor, nn

from minbert.classifier import SentenceModel
from regularizers.base import HIDDEN_STATES, WEIGHTS, Method, Wrapper, freeze


class Lhuc(Method):
    inserts = True
    neutral = None
    needs = (HIDDEN_STATES,)

    def __init__(self, *, freeze: bool = False):
        super().__init__()
        if freeze:
            self.freezes, self.lr = (WEIGHTS,), 3e-4

    def attach(self, model: SentenceModel) -> None:
        if self.freezes:
            freeze(model)
        for number, layer in enumerate(model.bert.layers):
            model.bert.layers[number] = ScaledLayer(model).wrap(layer)  # D1


class ScaledLayer(Wrapper):
    """A layer whose output is scaled by the factors of the batch's task."""

    nesting_order = 3

    def __init__(self, model: SentenceModel):
        super().__init__()
        self.r = nn.ParameterDict({task.name: torch.zeros(model.bert.config.hidden_size) for task in model.tasks})

    def forward(self, h: Tensor, mask: Tensor, task: str | None = None) -> Tensor:
        """[B,T,D] -> [B,T,D]"""
        return self.base(h, mask, task) * (2 * self.r[task].sigmoid())  # (m1)

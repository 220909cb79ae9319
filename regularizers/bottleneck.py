"""The information bottleneck as a regulariser, `ib`, and held at its starting point, `ib-sp`.  Section 4.4 of Improving
BERT Fine-Tuning via Stabilizing Cross-Layer Mutual Information.  Li, Li, Wang, Wang, Cao, Xu, Dou, ICASSP 2023.  After
The information bottleneck method.  Tishby, Pereira, Bialek 2000, arXiv:physics/0004057v1.

Idea: a good representation forgets the part of its input that the task does not need. The bottleneck's Lagrangian is
the task loss plus the information about the input that the layers keep. Small networks (MINE) estimate this information
while BERT trains. The variant ib-sp does not lower the information, but holds it at its value in the pretrained model.

Objective (§4.4), numbered by us (M layers; T_i [B,D] = [CLS] state of layer i; X [B,D] = the input):
  (m1)  min_θ  L(θ) + λ Σ_i I(X; T_i)                    ib
  (m2)  min_θ  L(θ) + λ Σ_i (I(X; T_i) - I⁰(X; T_i))     ib-sp; I⁰ = that of the pretrained model
  (m3)  I(X; T) = sup_φ  E_joint[G_φ] - log E_marginals[e^{G_φ}]
First stage: with θ frozen, each φ_i ascends to the supremum. Then, in turn: one step of φ up (m3), and one step of θ.

Symbols:  paper   | code            | default          | where
          λ       | self.weight     | 0.1, not given   | (m1) (m2)
          all, top| self.layers     | all: i = 1..M-1; top4: i = M-3..M, not given | (m1) (m2)
          I⁰      | reference       | measured         | (m2)
          G_φ     | self.estimators | two layers, hidden=256, not given | (m3)
                  | self.phi_lr     | 2e-3 in both stages, not given; Adam | ascent of (m3)
                  | self.ascents    | 10 for each step of θ, see D7 | ascent of (m3)
                  | self.proj_dim   | 16, see D5       | input of G
                  | self.marginals  | all_pairs, see D5 | (m3)

Cost: no extra pass of BERT. For each layer, G runs on B² pairs, 11 times forward and backward. First stage: up to five
forward passes over the training set, 100 more batches, and up to 3,000 steps of G. |∇ penalty| / |∇ L| on the trained
sample model (tests/regularizers/test_not_inert.py), RTE | STS-B: .16 | .10 for ib, .25 | .09 for ib-sp.

Differences:
  D1  ib counts an estimate below 0 as 0, because information is never negative. There the bound is loose, and pushing
      it further down would train against the networks' mistakes.
  D2  The default of ib-sp is mode="abs", Σ |I - I⁰|. As printed, (m2) has the gradient of (m1), since I⁰ is a constant.
      mode="squared" is Σ (I - I⁰)², mode="signed" is (m2) as printed.
  D3  The paper does not say what X is. Here X is the mean of the embedding output over the real tokens. (The embedding
      of [CLS] is the same in every example.) X is the input, so it is a constant: only T_i has a gradient.
      A gradient through X would change the embeddings instead of what the layers keep of them.
  D4  States with dropout, the held-out tenth, and the estimates that give I⁰: as in mine.py, D3.
  D5  States are standardised and projected to 16 random orthogonal dimensions (proj_dim=none: not projected), and each
      coordinate x becomes asinh(x). The marginals of a batch are all its B² pairs. "permute" shuffles one side, and
      has no ceiling at log B.
  D6  A micro-batch of fewer than 8 examples has no penalty. With --accumulate φ takes its steps for each micro-batch.
  D7  The paper's own method has one ascent for each step of θ. Here that is too few, because θ descends all the time:
      after about ten steps the estimators no longer follow BERT, every estimate is below 0 (D1), and the penalty has
      no gradient. The weight decay of Adam for φ is 1e-4, and the rate of the running mean of e^G is .01: not given.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minbert.classifier import Output, SentenceModel
from minbert.task import Batch
from regularizers.base import check_choice
from regularizers.mutual_information import DISTANCES, InformationMethod, large_enough


@dataclass(kw_only=True, eq=False, repr=False)
class Bottleneck(InformationMethod):
    name = "ib"
    kind = "a bottleneck"

    layers: str = "all"

    def __post_init__(self):
        super().__post_init__()
        check_choice(self, "layers", ("all", "top4"))

    def chosen_layers(self, layers: int) -> range:
        """The numbers i of the T_i, in a model with `layers` layers."""
        return range(1, layers) if self.layers == "all" else range(max(1, layers - 3), layers + 1)

    def pairs(self, layers: int) -> list[tuple[int, int]]:
        return [(0, i) for i in range(1, len(self.chosen_layers(layers)) + 1)]  # X is variable 0

    def states(self, output: Output, batch: Batch) -> Tensor:
        """X and the chosen T_i [B,1+layers,D]"""
        real = batch.attention_mask.unsqueeze(-1)  # (B,T,1)
        x = ((output.hidden[0] * real).sum(1) / real.sum(1)).detach()  # D3
        chosen = self.chosen_layers(len(output.hidden) - 1)
        return torch.stack([x, *(output.hidden[i][:, 0] for i in chosen)], 1)  # D4

    def penalty(self, model: SentenceModel, batch: Batch, clean: Output) -> dict[str, Tensor]:
        if not self.weight or not large_enough(batch):  # D6
            return {}
        estimators = self.estimators[batch.task.name]
        z = estimators.project(self.states(clean, batch))  # D5
        information = self.follow(estimators, z)  # (m3) D7
        return {"information": self.weight * self.cost(information, estimators.reference).sum()}

    def cost(self, information: Tensor, reference: Tensor) -> Tensor:
        """What each pair of variables adds to the penalty [P], from its estimate and its reference [P]."""
        return information.relu()  # (m1) D1


@dataclass(kw_only=True, eq=False, repr=False)
class BottleneckStart(Bottleneck):
    name = "ib-sp"

    mode: str = "abs"

    def __post_init__(self):
        super().__post_init__()
        check_choice(self, "mode", DISTANCES)

    def cost(self, information: Tensor, reference: Tensor) -> Tensor:
        return DISTANCES[self.mode](information - reference)  # (m2) D2

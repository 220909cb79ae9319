"""Improving BERT Fine-Tuning via Stabilizing Cross-Layer Mutual Information.  Li, Li, Wang, Wang, Cao, Xu, Dou,
ICASSP 2023.

Idea: fine-tuning should keep the way in which information travels through a pretrained model, not the information
itself. One small network (MINE) for each pair of neighbouring layers estimates how much their [CLS] states tell about
each other. The estimate on the pretrained model is the reference. In fine-tuning the networks follow the changing
states, with one step for each step of BERT, and a penalty holds the estimates at the references.

Objective (M layers; T_i [B,D] = [CLS] state of layer i, 1..M; g = the estimate of (7) on the batch):
  (7)  I(X,Z) = sup_φ  E_joint[G_φ] - log E_marginals[e^{G_φ}]
  (8)  R(θ) = Σ_{i<M} (g(T_i, T_{i+1}; φ_i) - b_i)
  (9)  min_θ  L(θ) + λ R(θ)
First stage: with θ frozen, each φ_i ascends to the supremum of (7) over the training set; b_i is the value there. Then,
in turn: one step of φ up (7) with θ frozen, and one step of θ down (9) with φ frozen.

Symbols:  paper   | code            | default          | where
          λ       | self.weight     | 0.01, see D7     | (9)
          b_i     | reference       | measured, see D3 | (8)
          G_φ     | self.estimators | two layers, hidden=256, not given | (7)
                  | self.phi_lr     | 5e-4 in both stages, not given; Adam | ascent of (7)
                  | self.ascents    | 1, for each step of θ | ascent of (7)
                  | self.proj_dim   | 16, see D4       | input of G
                  | self.marginals  | all_pairs, see D5 | (7)

Cost: no extra pass of BERT. For each pair of layers, G runs on B² pairs, twice forward and twice backward. First stage:
up to five forward passes over the training set, and up to 2,000 steps of G. |∇ λR| / |∇ L| on the trained sample model
(tests/regularizers/test_not_inert.py): about .07.

Differences:
  D1  The default is mode="abs", Σ |g - b|, in place of (8). The gradient of (8) does not depend on b: as printed, it
      lowers all information for any references. mode="squared" is Σ (g - b)², mode="signed" is (8) as printed.
  D2  The g of (8) is the bound of (7) on the batch. (7) determines G only up to a constant, so a b that is the value
      of G itself would have no meaning.
  D3  The first stage works on states with dropout, with new masks in each pass, and in batches like those of the second
      stage. A tenth of the batches is held out. The stage ends when the bound on these stops rising, and b is their
      mean bound. The paper does not say whether dropout was on. Without it, a model that has not changed yet is
      already nats away from its reference. all-MiniLM-L6-v2 on RTE, layers 1-2 | 3-4 | 5-6, batches of 32, nats,
      log 32 = 3.47; "start" is a new pass with dropout over the examples of the fit, where fine-tuning begins, ± .13
      to .23 over batches in the first two rows, up to 2 in the others (python -m benchmarks.cls_information):
          fitted to states            b, held out           the same, fitted      start
          with dropout, 16 dims        .51 |  .32 |  .28     .53 |  .36 |  .34     .48 |   .30 |  .29
          with dropout, all 384       1.35 | 1.80 | 2.61    1.60 | 2.28 | 3.10    1.39 |  2.00 | 2.78
          without, 16 dims             .88 |  .94 |  .47    1.28 | 1.33 |  .78   -3.09 | -5.87 |  .03
          without, all 384            2.99 | 3.05 | 2.75    3.33 | 3.35 | 3.30    -.63 |   .64 | 2.67
  D4  States are standardised and projected to 16 random orthogonal dimensions. This keeps the estimates well below
      log B, where they would saturate. proj_dim=none switches the projection off.
  D5  The marginals of a batch are all its B² pairs. "permute" shuffles T_{i+1}, and has no ceiling at log B.
  D6  A micro-batch of fewer than 8 examples has no penalty. With --accumulate φ takes a step for each micro-batch.
  D7  λ is not given. With all-MiniLM-L6-v2 on STS-B, one epoch, one seed: .757 without the penalty, .725 at 0.01, .60
      at 0.1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from minbert.classifier import Output, SentenceModel
from minbert.task import Batch
from regularizers.base import check_choice
from regularizers.mutual_information import DISTANCES, InformationMethod, large_enough


@dataclass(kw_only=True, eq=False, repr=False)
class Mine(InformationMethod):
    name = "mine"

    weight: float = 0.1  # D7
    mode: str = "abs"

    def __post_init__(self):
        super().__post_init__()
        check_choice(self, "mode", DISTANCES)

    def pairs(self, layers: int) -> list[tuple[int, int]]:
        return [(i, i + 1) for i in range(layers - 1)]

    def states(self, output: Output, batch: Batch) -> Tensor:
        """T_1 .. T_M [B,M,D]"""
        return torch.stack([h[:, 0] for h in output.hidden[1:]], 1)  # D3

    def penalty(self, model: SentenceModel, batch: Batch, clean: Output) -> dict[str, Tensor]:
        if not self.weight or not large_enough(batch):  # D6
            return {}
        estimators = self.estimators[batch.task.name]
        z = estimators.project(self.states(clean, batch))  # D4
        gap = self.follow(estimators, z) - estimators.reference  # (7) (8) D2 D5
        return {"information": self.weight * DISTANCES[self.mode](gap).sum()}  # (9) D1

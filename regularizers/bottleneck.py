"""The information bottleneck as a regulariser, `ib`, and held at its starting point, `ib-sp`.  Section 4.4 of Improving
BERT Fine-Tuning via Stabilizing Cross-Layer Mutual Information.  Li, Li, Wang, Wang, Cao, Xu, Dou, ICASSP 2023.  After
The information bottleneck method.  Tishby, Pereira, Bialek 2000, arXiv:physics/0004057v1.

Idea: a good representation forgets of its input what the task does not need. The bottleneck's Lagrangian is the
task loss plus the information that layers keep of the input, which small networks (MINE) estimate while BERT trains.
Its variant does not lower that information but holds it where it was in the pretrained model.

Objective (§4.4), numbered by us (M layers; T_i [B,D] = [CLS] state of layer i; X [B,D] = the input):
  (m1)  min_θ  L(θ) + λ Σ_i I(X; T_i)                    ib
  (m2)  min_θ  L(θ) + λ Σ_i (I(X; T_i) - I⁰(X; T_i))     ib-sp; I⁰ = that of the pretrained model
  (m3)  I(X; T) = sup_φ  E_joint[G_φ] - log E_marginals[e^{G_φ}]
A first stage takes each φ_i to the supremum with θ frozen. Then in turn: one step of φ up (m3), one of θ.

Symbols:  paper   | code            | default          | where
          λ       | self.weight     | 0.1, not given   | (m1) (m2)
          all, top| self.layers     | all: i = 1..M-1; top4: i = M-3..M, not given | (m1) (m2)
          I⁰      | reference       | measured         | (m2)
          G_φ     | self.estimators | two layers, hidden=256, not given | (m3)
                  | self.phi_lr     | 5e-4 in both stages, not given; Adam | ascent of (m3)
                  | self.ascents    | ib: 10, see D7; ib-sp: 1, for each step of θ | ascent of (m3)
                  | self.proj_dim   | 16, see D5       | input of G
                  | self.marginals  | all_pairs, see D5 | (m3)

Cost: no extra pass of BERT; G on B² pairs for each layer, twice forward and twice back. First stage: up to five
forward passes over the training set, and up to 2,000 steps of G. |∇ penalty| / |∇ L| on the trained sample model
(tests/test_not_inert.py): ib .3, ib-sp .5, roughly.

Differences:
  D1  ib takes an estimate below 0 for 0, which information cannot be below: the bound is loose there, and
      pushing it further down would train against the networks' mistakes.
  D2  ib-sp has mode="abs", Σ |I - I⁰|: as printed (m2) has the gradient of (m1), since I⁰ is a constant.
      mode="squared" is Σ (I - I⁰)², mode="signed" is (m2) as printed.
  D3  X, which the paper does not name, is the mean of the embedding output over the real tokens. ([CLS] itself
      enters the first layer alike in every example.)
  D4  The first stage works on states with dropout, new masks in each pass, in batches like those of the second; a
      tenth of the batches is held out. It ends when (m3) on these stops to rise, and I⁰ is its mean on them.
  D5  States are standardised and projected to 16 random orthogonal dimensions (proj_dim=none is without). The marginals
      of a batch are all its B² pairs; "permute" shuffles one side, and has no ceiling at log B.
  D6  A micro-batch of less than 8 examples takes no part. With --accumulate φ takes a step for each micro-batch.
  D7  One ascent for each step of θ, as the paper has it for its own method, is too few where θ descends all the time:
      after some ten steps BERT has left the estimators behind, every estimate is below 0 (D1), and nothing pulls.
"""

import torch
from torch import Tensor

from regularizers.base import DROPOUT, HIDDEN_STATES, Method
from regularizers.mutual_information import (
    DISTANCES,
    adam,
    check_hyper_parameters,
    first_stage,
    large_enough,
    make_estimators,
)


class Bottleneck(Method):
    name = "ib"
    neutral = {"weight": 0.0}
    needs = (HIDDEN_STATES, DROPOUT)  # D4
    kind = "a bottleneck"

    def __init__(
        self,
        *,
        weight: float = 0.1,
        layers: str = "all",
        marginals: str = "all_pairs",
        proj_dim: int | None = 16,
        hidden: int = 256,
        phi_lr: float = 5e-4,
        ascents: int = 10,  # D7
    ):
        super().__init__()
        self.weight, self.layers, self.marginals = weight, layers, marginals
        self.proj_dim, self.hidden, self.phi_lr, self.ascents = proj_dim, hidden, phi_lr, ascents
        check_hyper_parameters(self)
        if layers not in ("all", "top4"):
            raise ValueError(f"layers must be all or top4, not {layers}")

    def attach(self, model) -> None:
        if self.weight:
            top = model.bert.config.num_hidden_layers
            self.chosen = range(1, top) if self.layers == "all" else range(max(1, top - 3), top + 1)
            pairs = [(0, i) for i in range(1, len(self.chosen) + 1)]
            self.estimators = make_estimators(self.name, self, model, pairs, variables=len(self.chosen) + 1)
            self.optimizer = adam(self.estimators, self.phi_lr)

    def optimizers(self) -> tuple[torch.optim.Optimizer, ...]:
        return (self.optimizer,) if self.weight else ()

    def prepare(self, model, batches) -> None:
        if self.weight:
            first_stage(self.name, self.estimators, model, batches, self.states, self.phi_lr)  # D4

    def penalty(self, model, batch, clean) -> dict[str, Tensor]:
        if not self.weight or not large_enough(batch):  # D6
            return {}
        estimators = self.estimators[batch.task.name]
        z = estimators.project(self.states(clean, batch))  # D5
        for _ in range(self.ascents):
            estimators.ascend(z, self.optimizer)  # (m3)
        return {"information": self.weight * self.cost(estimators.estimate(z), estimators.reference).sum()}

    def cost(self, information: Tensor, reference: Tensor) -> Tensor:
        return information.relu()  # (m1) D1

    def states(self, output, batch) -> Tensor:
        """X and the chosen T_i [B,1+layers,D]"""
        real = batch.attention_mask.unsqueeze(-1)  # (B,T,1)
        x = (output.hidden[0] * real).sum(1) / real.sum(1)  # D3
        return torch.stack([x, *(output.hidden[i][:, 0] for i in self.chosen)], 1)


class BottleneckStart(Bottleneck):
    name = "ib-sp"

    def __init__(
        self,
        *,
        weight: float = 0.1,
        mode: str = "abs",
        layers: str = "all",
        marginals: str = "all_pairs",
        proj_dim: int | None = 16,
        hidden: int = 256,
        phi_lr: float = 5e-4,
        ascents: int = 1,
    ):
        self.mode = mode
        shape = {"marginals": marginals, "proj_dim": proj_dim, "hidden": hidden}
        super().__init__(weight=weight, layers=layers, **shape, phi_lr=phi_lr, ascents=ascents)

    def cost(self, information: Tensor, reference: Tensor) -> Tensor:
        return DISTANCES[self.mode](information - reference)  # (m2) D2

"""Improving BERT Fine-Tuning via Stabilizing Cross-Layer Mutual Information.  Li, Li, Wang, Wang, Cao, Xu, Dou,
ICASSP 2023.

Idea: fine-tuning should keep the way in which information travels through a pretrained model, not the information
itself. One small network (MINE) for each pair of neighbouring layers estimates how much their [CLS] states tell about
each other. The estimate on the pretrained model is the reference. In fine-tuning the networks follow the changing
states, with ten steps for each step of BERT, and a penalty holds the estimates at the references.

Objective (M layers; T_i [B,D] = [CLS] state of layer i, 1..M; g = the estimate of (7) on the batch):
  (7)  I(X,Z) = sup_φ  E_joint[G_φ] - log E_marginals[e^{G_φ}]
  (8)  R(θ) = Σ_{i<M} (g(T_i, T_{i+1}; φ_i) - b_i)
  (9)  min_θ  L(θ) + λ R(θ)
First stage: with θ frozen, each φ_i ascends to the supremum of (7) over the training set; b_i is the value there. Then,
in turn: one step of φ up (7) with θ frozen, and one step of θ down (9) with φ frozen.

Symbols:  paper   | code            | default          | where
          λ       | self.weight     | 0.1, see D7      | (9)
          b_i     | reference       | measured, see D3 | (8)
          G_φ     | self.estimators | two layers, hidden=256, not given | (7)
                  | self.phi_lr     | 2e-3 in both stages, not given; Adam | ascent of (7)
                  | self.ascents    | 10 for each step of θ, see D8 | ascent of (7)
                  | self.proj_dim   | 16, see D4       | input of G
                  | self.marginals  | all_pairs, see D5 | (7)

Cost: no extra pass of BERT. For each pair of layers, G runs on B² pairs, 11 times forward and backward. First stage:
up to five forward passes over the training set, 100 more batches, and up to 3,000 steps of G. |∇ λR| / |∇ L| on the
trained sample model (tests/regularizers/test_not_inert.py): .6 on RTE, .3 on STS-B.

Differences:
  D1  The default is mode="abs", Σ |g - b|, in place of (8). The gradient of (8) does not depend on b: as printed, it
      lowers all information for any references. mode="squared" is Σ (g - b)², mode="signed" is (8) as printed.
  D2  The g of (8) is the bound of (7) on the batch. (7) determines G only up to a constant, so a b that is the value
      of G itself would have no meaning.
  D3  The paper does not say on what b is measured. Here the fit of the first stage sees states with dropout, with new
      masks in each pass, in batches like those of the second stage, and ends when the bound on a held-out tenth stops
      rising. Then the networks follow the frozen model for 100 batches exactly as they will follow the training model,
      and b is their mean estimate over the last 50. So the mean gap of a model that never moves is 0 at first
      (tested). On 250 examples it rises to .1 nats after another 60 batches, because the networks begin to memorise so
      few examples. With b from the held-out tenth the gap was .07 to .13 from the start; with b from masks that the
      fit had seen, .7.
      With several processes all of them follow the same batches here.
  D4  States are standardised and projected to 16 random orthogonal dimensions, and each coordinate x becomes asinh(x),
      also with proj_dim=none (no projection). With 32 examples no estimate can exceed log 32 = 3.47. A reference above
      .8 of that is named in a warning.
  D5  The marginals of a batch are all its B² pairs. "permute" shuffles T_{i+1}, and has no ceiling at log B.
  D6  A micro-batch of fewer than 8 examples has no penalty. With --accumulate φ takes its steps for each micro-batch.
  D7  λ is not given. The sum of |I - b| over the pairs after fine-tuning, in nats, by networks that were fitted to the
      fine-tuned model (python -m benchmarks.information), and the dev score; 250 examples, three seeds:
          the sample on RTE             λ = 0: 1.05 | .677    .03: .38 | .710    .1: .21 | .739    .3: .31 | .727
          the sample on STS-B           λ = 0: 4.07 | .130    .1: .49 | .366
          all-MiniLM-L6-v2 on STS-B     λ = 0: 1.11 | .519    .1: .65 | .466
      So the penalty holds the information. Where plain fine-tuning loses it (the sample), that helps: on RTE over 20
      seeds, 8 epochs, by .016 (p = .002, sample/README.md). In all-MiniLM-L6-v2 on STS-B the information between the
      last two layers rises in plain fine-tuning, and each of three seeds scores .01 to .1 less with the penalty.
  D8  The paper has one ascent for each step of θ. With one, rate 5e-4 and λ = .01 the sum of D7 is .36 | .720 on the
      sample: the networks lag behind BERT. Not given are the weight decay of Adam for φ, here 1e-4, and the rate of
      the running mean of e^G, here .01.

In the paper's tables the MRPC score is accuracy: the median 68.38 is 279/408, the majority class. Its L2-SP has no term
for the head and no ½: `--option l2sp --set l2sp.beta=0 l2sp.include=all`, with α = 2λ.
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
        gap = self.follow(estimators, z) - estimators.reference  # (7) (8) D2 D5 D8
        return {"information": self.weight * DISTANCES[self.mode](gap).sum()}  # (9) D1

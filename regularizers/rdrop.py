"""R-Drop: Regularized Dropout for Neural Networks.  Liang et al., NeurIPS 2021, arXiv:2106.14448.

Idea: dropout trains many sub-models and uses none of them: the full model answers in the end. So each batch passes
through two sub-models, the same weights under two draws of the dropout masks. How far their answers differ is
penalised.

Objective (P₁, P₂ the answers of the two passes, f₁, f₂ their logits; numbered by us):
  (m1)  min_θ  L(θ) + α R(θ),   L the task loss of the first pass
  (m2)  R(θ) = 1/n Σ_i ½ (KL(P₁‖P₂) + KL(P₂‖P₁)) for classes, ½ (f₁ - f₂)² for regression

Symbols:  paper | code        | default     | where
          α     | self.weight | 0.5, see D1 | (m1)

Cost: 1 forward, embeddings included, and its part of the joint backward. |∇ α R| / |∇ L| on the trained sample model
(tests/regularizers/test_not_inert.py): about .5 on RTE, .07 on STS-B.

Differences:
  D1  The paper adds the losses of both passes. Here it is the loss of the first, which has the same mean over the
      masks. So that is half of the paper's objective, and α half of its α: 0.5 stands for 1, the default of its code.
      In this way α = 0 is plain fine-tuning, and --task-weights weighs all of a task's loss.
  D2  Regression has the squared difference, halved as the divergence is. The authors' code does not halve it.
"""

from torch import Tensor

from minbert.classifier import Output, SentenceModel
from minbert.task import Batch
from regularizers.base import DROPOUT, Method, check_not_negative, has_dropout


class RDrop(Method):
    neutral = {"weight": 0.0}
    needs = (DROPOUT,)  # without it the two passes are equal

    def __init__(self, *, weight: float = 0.5):  # D1
        super().__init__()
        self.weight = weight
        check_not_negative(self, "weight")

    def attach(self, model: SentenceModel) -> None:
        if self.weight and not has_dropout(model):
            raise ValueError("the model has no dropout, so its two passes would be equal: set --dropout 0.1")

    def penalty(self, model: SentenceModel, batch: Batch, clean: Output) -> dict[str, Tensor]:
        if not self.weight:
            return {}
        second = model(batch)  # Sum has set another seed since the clean pass, so the masks are new.
        divergence = batch.task.divergence(clean.logits, second.logits) / 2  # (m2) D2
        return {"consistency": self.weight * divergence}  # (m1)

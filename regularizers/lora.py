"""LoRA: Low-Rank Adaptation of Large Language Models.  Hu et al., ICLR 2022, arXiv:2106.09685v2.

Idea: the change of a weight matrix in fine-tuning has a low rank. So the pretrained weights do not change, and the
product of two narrow matrices is learned in place of the change of a whole matrix. After training the product can be
added to the pretrained weight (minbert.weights.merge), and the model is a plain BERT again.

Objective: the task loss alone, minimised over A, B and the head. For the query and the value projection of each layer
(§4.2), with W₀ [D,D] the pretrained weight, A [r,D], B [D,r] and x the input of the layer:
  (3)  h = W₀ x + ΔW x,   ΔW = α/r B A

Symbols:  paper | code       | default      | where
          r     | self.r     | 8            | (3)
          α     | self.alpha | 16           | (3)
          A     | a          | N(0, 0.02²), see D1 | (3)
          B     | b          | 0            | (3), so ΔW = 0 at the start
          r, α and the default learning rate, 5e-4, are those of the authors' script for RoBERTa-base on MNLI
          (microsoft/LoRA, examples/NLU/roberta_base_mnli.sh).

Cost: no extra pass; two narrow products in each layer, and none after a merge. For BERT-base, each task has 294,912
parameters.

Differences:
  D1  The paper draws A from a normal distribution of unstated size. Here it has the standard deviation that BERT's own
      weights had (initializer_range). The authors' code draws A uniformly from ±1/√D.
  D2  The paper trains one task at a time. Here all tasks share the pretrained weights, and each task has an A and a B
      of its own.
  D3  In the authors' code the head of RoBERTa has a hidden layer with fresh weights, which trains. Here its place has
      BERT's pooler, which is pretrained and does not train. It trains if the checkpoint has none.
In ALBERT, whose layers share their parameters, each depth has updates of its own. They cannot be merged into weights.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minbert.attention import SelfAttention
from minbert.classifier import SentenceModel
from regularizers.base import (
    HIDDEN_STATES,
    WEIGHTS,
    Method,
    Wrapper,
    check_at_least_one,
    check_not_negative,
    freeze,
    unwrap,
)


class Lora(Method):
    inserts = True
    neutral = None
    lr = 5e-4
    freezes = (WEIGHTS,)
    needs = (HIDDEN_STATES,)

    def __init__(self, *, r: int = 8, alpha: float = 16.0):
        super().__init__()
        self.r, self.alpha = r, alpha
        check_at_least_one(self, "r")
        check_not_negative(self, "alpha")

    def attach(self, model: SentenceModel) -> None:
        freeze(model)  # D3
        for layer in model.bert.layers:
            plain = unwrap(layer)
            plain.attention = LoraAttention(self.updates(model), self.updates(model)).wrap(plain.attention)

    def updates(self, model: SentenceModel) -> nn.ModuleDict:
        """A fresh update of one projection for each task."""
        config = model.bert.config
        shape = config.hidden_size, self.r, self.alpha / self.r, config.initializer_range
        return nn.ModuleDict({task.name: LowRankUpdate(*shape) for task in model.tasks})  # D2


class LowRankUpdate(nn.Module):
    """ΔW of one projection."""

    def __init__(self, width: int, r: int, scale: float, std: float):
        super().__init__()
        self.scale = scale
        self.a = nn.Parameter(std * torch.randn(r, width))  # D1
        self.b = nn.Parameter(torch.zeros(width, r))

    def forward(self, x: Tensor) -> Tensor:
        """ΔW x, [B,T,D] -> [B,T,D]. The narrow product comes first, so ΔW itself is never computed."""
        return self.scale * F.linear(F.linear(x, self.a), self.b)  # (B,T,D) -> (B,T,r) -> (B,T,D)  (3)

    def weight(self) -> Tensor:
        """ΔW [D,D]"""
        return self.scale * self.b @ self.a


class LoraAttention(Wrapper):
    """Attention whose queries and values get the update of the batch's task."""

    nesting_order = -1  # directly around the plain attention, whose projections it calls

    def __init__(self, query_updates: nn.ModuleDict, value_updates: nn.ModuleDict):
        super().__init__()
        self.query_updates, self.value_updates = query_updates, value_updates

    def forward(self, h: Tensor, mask: Tensor, task: str | None = None) -> Tensor:
        """[B,T,D] -> [B,T,D]; mask [B,1,1,T]"""
        return self.base.attend(*self.project(h, task), mask)

    def explicit(self, h: Tensor, mask: Tensor, task: str | None = None) -> tuple[Tensor, Tensor]:
        """forward, for analyses: [B,T,D] -> (output [B,T,D], probabilities [B,H,T,T] before dropout)."""
        return self.base.attend_explicitly(*self.project(h, task), mask)

    def project(self, h: Tensor, task: str | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values [B,T,D]."""
        q = self.base.query(h) + self.query_updates[task](h)  # (3)
        v = self.base.value(h) + self.value_updates[task](h)  # (3)
        return q, self.base.key(h), v

    def low_rank_updates(self, task: str) -> dict[str, LowRankUpdate]:
        """The updates of one task by the name of their projection. minbert.export calls this."""
        return {"query": self.query_updates[task], "value": self.value_updates[task]}

    def merged(self, task: str) -> SelfAttention:
        """Add the updates of one task to the plain attention, and return it. weights.merge calls this on its copy."""
        self.base.query.weight.data += self.query_updates[task].weight().detach()
        self.base.value.weight.data += self.value_updates[task].weight().detach()
        return self.base

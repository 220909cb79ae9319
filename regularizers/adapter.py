"""Adapters: Parameter-Efficient Transfer Learning for NLP.  Houlsby et al., ICML 2019, arXiv:1902.00751v2.  With the
two placements of a CS224N report: Investigating BERT through Fine-Tuned Regularization and Layer-Level Adaptations
for Multi-Task Performance.  Pandey and Narayan, Stanford.

Idea: the pretrained weights do not change, and all tasks share them. Each task has small modules of its own between
them. An adapter sends each token through a narrow bottleneck and adds the result to the token. So a new adapter is
(nearly) the identity, and training starts from the pretrained model.

Objective: the task loss alone, minimised over the adapters, all LayerNorms and the head. With h [B,T,D], a bottleneck
of width m and, in each layer, a = LN(h + Attention(h)), h' = LN(a + FFN(a)) (sections 2 and 2.1; numbered by us):
  (m1)  A(h) = h + W_D GELU(W_E h + b_E) + b_D
  (m2)  houlsby: a = LN(h + A₁(Attention(h))),  h' = LN(a + A₂(FFN(a)))
  (m3)  before:  h' = LN(a + A(FFN(a)))
  (m4)  after:   h' = A(LN(a + FFN(a)))

Symbols:  paper     | code       | default | where
          m         | self.size  | 64      | (m1)
          σ         | self.std   | 1e-3    | start of W_E and W_D: N(0, σ²) cut off at 2σ; biases 0
                    | self.place | houlsby | (m2), (m3), (m4)
          The default learning rate is 3e-4.

Cost: no extra pass, and no gradient for most weights. For BERT-base, each task has 2,379,264 parameters in two adapters
a layer, and half of that in one. 2,417,664 parameters train with the LayerNorms, and the head.

Differences:
  D1  The paper's text says σ = 1e-2; its code (google-research/adapter-bert) and the report have 1e-3.
  D2  GELU is exact here. That code has its tanh approximation, and the report names no function.
  D3  The report does not say which parameters train. Here they are the same for all placements. The pooler is not one
      of them, as in that code, unless its weights are fresh because the checkpoint has none.
  D4  All tasks share the LayerNorms. In the paper each task is trained separately, with LayerNorms of its own. Joined
      with a method that stops them from training (adapter+lora, adapter+frozen), they do not train.
In ALBERT, whose layers share their parameters, each depth has adapters of its own; the shared LayerNorms train.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from minbert.classifier import SentenceModel
from regularizers.base import (
    HIDDEN_STATES,
    WEIGHTS,
    Method,
    Wrapper,
    check_at_least_one,
    check_choice,
    check_not_negative,
    freeze,
    unwrap,
)


class Adapter(Method):
    inserts = True
    neutral = None
    lr = 3e-4
    freezes = (WEIGHTS,)
    needs = (HIDDEN_STATES,)

    def __init__(self, *, place: str = "houlsby", size: int = 64, std: float = 1e-3):  # D1
        super().__init__()
        self.place, self.size, self.std = place, size, std
        check_choice(self, "place", ("houlsby", "before", "after"))
        check_at_least_one(self, "size")
        check_not_negative(self, "std")

    def attach(self, model: SentenceModel) -> None:
        freeze(model, except_for=nn.LayerNorm)  # D3 D4
        for number, layer in enumerate(model.bert.layers):
            plain = unwrap(layer)
            if self.place == "houlsby":
                plain.attention = AdaptedAttention(self.adapters(model)).wrap(plain.attention)  # (m2)
            if self.place in ("houlsby", "before"):
                plain.feed_forward = AdaptedFeedForward(self.adapters(model)).wrap(plain.feed_forward)  # (m2) (m3)
            if self.place == "after":
                model.bert.layers[number] = AdaptedLayer(self.adapters(model)).wrap(layer)  # (m4)

    def adapters(self, model: SentenceModel) -> nn.ModuleDict:
        """A fresh adapter for each task."""
        width = model.bert.config.hidden_size
        return nn.ModuleDict({task.name: BottleneckAdapter(width, self.size, self.std) for task in model.tasks})


class BottleneckAdapter(nn.Module):
    """A(h): to a narrow width and back, added to h."""

    def __init__(self, width: int, size: int, std: float):
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)  # W_E and W_D
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight)  # standard deviation 1, cut off at -2 and 2
            linear.weight.data *= std
            nn.init.zeros_(linear.bias)

    def forward(self, h: Tensor) -> Tensor:
        """[B,T,D] -> [B,T,D]"""
        return h + self.up(F.gelu(self.down(h)))  # (m1) D2


class AdaptedFeedForward(Wrapper):
    """A feed-forward block, and the adapter of the batch's task on its output."""

    def __init__(self, adapters: nn.ModuleDict):
        super().__init__()
        self.adapters = adapters

    def forward(self, h: Tensor, task: str | None = None) -> Tensor:
        return self.adapters[task](self.base(h, task))


class AdaptedAttention(AdaptedFeedForward):
    """The same around an attention block, which also takes a mask."""

    def forward(self, h: Tensor, mask: Tensor, task: str | None = None) -> Tensor:
        return self.adapters[task](self.base(h, mask, task))


class AdaptedLayer(AdaptedAttention):
    """The same around a whole layer, outside of a PAL."""

    nesting_order = 2

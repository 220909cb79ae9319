"""Adapters: Parameter-Efficient Transfer Learning for NLP.  Houlsby et al., ICML 2019, arXiv:1902.00751v2.  With the
two placements of a CS224N report: Investigating BERT through Fine-Tuned Regularization and Layer-Level Adaptations
for Multi-Task Performance.  Pandey and Narayan, Stanford.

Idea: the pretrained weights stay as they are, for all tasks the same, and each task gets small modules of its own
between them. An adapter squeezes each token through a bottleneck and adds the result to the token, so it begins as
(nearly) the identity and the model as the pretrained one.

Objective: the task loss alone, minimised over the adapters, all LayerNorms and the head. With h [B,T,D], a bottleneck
of m and, in each layer, a = LN(h + Attention(h)), h' = LN(a + FFN(a)) (sections 2 and 2.1; numbered by us):
  (m1)  A(h) = h + W_D GELU(W_E h + b_E) + b_D
  (m2)  houlsby: a = LN(h + A₁(Attention(h))),  h' = LN(a + A₂(FFN(a)))
  (m3)  before:  h' = LN(a + A(FFN(a)))
  (m4)  after:   h' = A(LN(a + FFN(a)))

Symbols:  paper     | code       | default | where
          m         | self.size  | 64      | (m1)
          σ         | self.std   | 1e-3    | W_E and W_D at first: N(0, σ²) cut off at 2σ; biases 0
                    | self.place | houlsby | (m2), (m3), (m4)
          The default learning rate is 3e-4.

Cost: no extra pass, and no gradient of most weights. BERT-base, a task: 2,379,264 parameters in two adapters a layer,
half of that in one; with the LayerNorms 2,417,664 are trained, and the head.

Differences:
  D1  The paper's text says σ = 1e-2; its code (google-research/adapter-bert) and the report have 1e-3.
  D2  GELU in its exact form, where that code has the tanh approximation. The report names no function.
  D3  The report leaves open what it trains; here it is the same for all placements. Not the pooler, as in that code.
  D4  Here the LayerNorms belong to all tasks together; in the paper each task is trained by itself, with its own.
"""

import torch.nn.functional as F
from torch import Tensor, nn

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


class Adapter(Method):
    inserts = True
    neutral = None
    lr = 3e-4
    freezes = (WEIGHTS,)
    needs = (HIDDEN_STATES,)

    def __init__(self, *, place: str = "houlsby", size: int = 64, std: float = 1e-3):  # D1
        super().__init__()
        if place not in ("houlsby", "before", "after"):
            raise ValueError(f"place must be houlsby, before or after, not {place}")
        self.place, self.size, self.std = place, size, std
        check_at_least_one(self, "size")
        check_not_negative(self, "std")

    def attach(self, model) -> None:
        freeze(model, except_for=nn.LayerNorm)  # D3 D4
        for number, layer in enumerate(model.bert.layers):
            plain = unwrap(layer)
            if self.place == "houlsby":
                plain.attention = AdaptedAttention(self.adapters(model)).wrap(plain.attention)  # (m2)
            if self.place in ("houlsby", "before"):
                plain.feed_forward = AdaptedFeedForward(self.adapters(model)).wrap(plain.feed_forward)  # (m2) (m3)
            if self.place == "after":
                model.bert.layers[number] = AdaptedLayer(self.adapters(model)).wrap(layer)  # (m4)

    def adapters(self, model) -> nn.ModuleDict:
        width = model.bert.config.hidden_size
        return nn.ModuleDict({task.name: BottleneckAdapter(width, self.size, self.std) for task in model.tasks})


class BottleneckAdapter(nn.Module):
    def __init__(self, width: int, size: int, std: float):
        super().__init__()
        self.down, self.up = nn.Linear(width, size), nn.Linear(size, width)  # W_E and W_D
        for linear in (self.down, self.up):
            nn.init.trunc_normal_(linear.weight)  # at deviation 1, cut off at -2 and 2
            linear.weight.data *= std
            nn.init.zeros_(linear.bias)

    def forward(self, h: Tensor) -> Tensor:
        """[B,T,D] -> [B,T,D]"""
        return h + self.up(F.gelu(self.down(h)))  # (m1) D2


class AdaptedFeedForward(Wrapper):
    def __init__(self, adapters: nn.ModuleDict):
        super().__init__()
        self.adapters = adapters

    def forward(self, h: Tensor, task: str | None = None) -> Tensor:
        return self.adapters[task](self.base(h, task))


class AdaptedAttention(AdaptedFeedForward):
    def forward(self, h: Tensor, mask: Tensor, task: str | None = None) -> Tensor:
        return self.adapters[task](self.base(h, mask, task))


class AdaptedLayer(AdaptedAttention):
    nesting_order = 2

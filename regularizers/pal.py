"""PALs: BERT and PALs: Projected Attention Layers for Efficient Adaptation in Multi-Task Learning.  Stickland and
Murray, ICML 2019, arXiv:1902.02671v2.

Idea: all tasks share one BERT, which they train together, and each task has small modules of its own in parallel to the
layers. A PAL is attention in a space that is narrower than BERT's. All layers share the two projections into that space
and out of it. The low-rank module has no attention, and two projections of its own in each layer.

Objective: the task loss alone, minimised over BERT, the head, and the inserted modules. With h [B,T,D] the input of
a layer, a = LN(h + Attention(h)) inside it, and V^E, V^D between D and the width m (numbered by us):
  (m1)  h' = LN(a + FFN(a) + TS(h))
  (m2)  TS(h) = V^D g(V^E h)
  (m3)  PAL: g = attention of `heads` heads, softmax(QKᵀ/√d)V, without an output projection; V^E, V^D shared
  (m4)  low-rank: g = GELU

Symbols:  paper | code         | default           | where
          m     | self.size    | 204, low-rank 100 | (m2)
          heads | self.heads   | 12, see D2        | (m3)
                | self.out_act | none, see D2      | (m2)
                | self.freezes | freeze=false      | freeze=true: BERT does not change, only the inserted modules,
                                                     the head and a fresh pooler train; the default learning rate
                                                     is that of adapters, 3e-4
          Fresh weights are drawn as BERT's were, N(0, 0.02²), and biases are 0.

Cost: no extra pass. For BERT-base, each task has 1,819,836 parameters (PAL) or 1,853,616 (low-rank).

Differences:
  D1  The paper prints h' = LN(h + SA(h) + TS(h)), where SA stands for attention, its LayerNorm and FFN together.
      (m1) is what its code (Bert-n-Pals) computes.
  D2  The paper has 12 heads and no activation after V^D. That code has 6 heads and a GELU there: heads=6, out_act=gelu.
  D3  The attention of a PAL has no dropout. In that code it has BERT's.
In ALBERT, whose layers share their parameters, each depth has a PAL, or a low-rank layer, of its own.
"""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from minbert.classifier import SentenceModel
from regularizers.base import HIDDEN_STATES, WEIGHTS, Method, Wrapper, check_at_least_one, check_choice, freeze


class Pal(Method):
    inserts = True
    neutral = None
    needs = (HIDDEN_STATES,)
    kind = "a branch parallel to each layer"

    def __init__(self, *, size: int = 204, heads: int = 12, out_act: str | None = None, freeze: bool = False):  # D2
        super().__init__()
        self.size, self.heads, self.out_act = size, heads, out_act
        check_at_least_one(self, "size")
        if heads < 1 or size % heads:
            raise ValueError(f"heads must divide size, and {heads} does not divide {size}")
        check_choice(self, "out_act", (None, "gelu"))
        if freeze:
            self.freezes, self.lr = (WEIGHTS,), 3e-4

    def attach(self, model: SentenceModel) -> None:
        width = model.bert.config.hidden_size
        shared = nn.ModuleDict({task.name: Projections(width, self.size) for task in model.tasks})
        model.bert.pal = shared.apply(model.bert.initialize)
        self.insert(model, lambda task: ProjectedAttention(shared[task], self.size, self.heads, self.out_act))

    def insert(self, model: SentenceModel, branch: Callable[[str], nn.Module]) -> None:
        """Put branch(task name) in parallel to each layer, for each task."""
        if self.freezes:
            freeze(model)
        for number, layer in enumerate(model.bert.layers):
            branches = nn.ModuleDict({task.name: branch(task.name) for task in model.tasks})
            model.bert.layers[number] = ParallelLayer(branches.apply(model.bert.initialize)).wrap(layer)


class LowRank(Pal):
    def __init__(self, *, size: int = 100, freeze: bool = False):
        super().__init__(size=size, heads=1, freeze=freeze)

    def attach(self, model: SentenceModel) -> None:
        self.insert(model, lambda task: LowRankBranch(model.bert.config.hidden_size, self.size))


class ParallelLayer(Wrapper):
    """A layer with the branch of the batch's task in parallel to its feed-forward."""

    nesting_order = 1  # directly around the plain layer, whose parts it calls

    def __init__(self, branches: nn.ModuleDict):
        super().__init__()
        self.branches = branches

    def forward(self, h: Tensor, mask: Tensor, task: str | None = None) -> Tensor:
        """[B,T,D] -> [B,T,D]; mask [B,1,1,T]"""
        layer = self.base
        a = layer.attention_norm(h + layer.attention(h, mask, task))
        return layer.feed_forward_norm(a + layer.feed_forward(a, task) + self.branches[task](h, mask))  # (m1) D1


class Projections(nn.Module):
    """V^E, from BERT's width to the narrow one, and V^D, back."""

    def __init__(self, width: int, size: int):
        super().__init__()
        self.encode, self.decode = nn.Linear(width, size), nn.Linear(size, width)


class LowRankBranch(Projections):
    """TS(h) without attention."""

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """[B,T,D] -> [B,T,D]"""
        return self.decode(F.gelu(self.encode(h)))  # (m2) (m4)


class ProjectedAttention(nn.Module):
    """TS(h) of a PAL: attention between the two shared projections."""

    def __init__(self, shared: Projections, size: int, heads: int, out_act: str | None):
        super().__init__()
        self.shared = (shared,)  # in a tuple: registered once, with the model, and not again in each layer
        self.query, self.key, self.value = (nn.Linear(size, size) for _ in range(3))
        self.heads, self.out_act = heads, out_act

    def forward(self, h: Tensor, mask: Tensor) -> Tensor:
        """[B,T,D] -> [B,T,D]. `mask` [B,1,1,T] is True where a token may be attended to."""
        (shared,) = self.shared
        x = shared.encode(h)  # (B,T,D) -> (B,T,m)
        q, k, v = (f(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for f in (self.query, self.key, self.value))
        x = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)  # (B,H,T,m/H)  (m3) D3
        x = shared.decode(x.transpose(1, 2).flatten(2))  # (B,H,T,m/H) -> (B,T,m) -> (B,T,D)  (m2)
        return F.gelu(x) if self.out_act else x  # D2

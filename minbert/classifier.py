"""SentenceModel: a BertModel with one head for each task, and the three seams that methods use."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minbert.batches import Batch
from minbert.bert import BertModel, attendable
from minbert.dropout import Dropout
from minbert.losses import full
from minbert.runtime import generator_state
from minbert.tasks import Task

MOST_SIMILAR = 5.0  # the label of two sentences that mean the same, in STS and STS-B


class Output(NamedTuple):
    logits: Tensor  # [B,C]
    hidden: tuple[Tensor, ...]  # hidden[0] = embedding output, hidden[l] = output of layer l, [B,T,D]
    rng: tuple  # rng[l] = generator state on entering layer l+1; rng[L] = on entering the head
    entry: tuple = ()  # generator state on entering the embeddings


class SentenceModel(nn.Module):
    """logits = W features(dropout(pooled)) + b, with W and b of the batch's task.

    `embed`, `encode` and `head` are the seams: a method can start a second pass at the embeddings or
    at any layer, and with `rng` (see runtime.replay) that pass meets the dropout masks of the first.
    """

    def __init__(self, bert: BertModel, tasks: Sequence[Task]):
        super().__init__()
        self.tasks = tuple(tasks)
        self.bert = bert
        self.dropout = Dropout(bert.config.hidden_dropout_prob)
        width = bert.config.hidden_size
        self.heads = nn.ModuleDict({task.name: nn.Linear(feature_count(task, width), task.outputs) for task in tasks})
        self.heads.apply(bert.initialize)
        for task in tasks:
            if compares_by_cosine(task):  # the similarity itself, to begin with
                nn.init.ones_(self.heads[task.name].weight)

    def embed(self, batch: Batch, noise: Tensor | None = None) -> Tensor:
        """-> hidden[0] [B,T,D]; `noise` [B,T,D] is added to the token vectors (R3F)."""
        return self.bert.embeddings(batch.input_ids, batch.token_type_ids, noise)

    def encode(self, h: Tensor, batch: Batch, start: int = 0) -> tuple[Tensor, ...]:
        """h = hidden[start] -> (hidden[start+1], ..., hidden[L])"""
        return self.run_layers(h, batch, start)[0]

    def head(self, h: Tensor, batch: Batch) -> Tensor:
        """h = hidden[L] [B,T,D] -> logits [B,C]"""
        pooled = self.bert.pool(h)
        if not compares_by_cosine(batch.task):  # two masks would make equal sentences differ
            pooled = self.dropout(pooled)
        return self.heads[batch.task.name](features(pooled, batch.task))

    def forward(self, batch: Batch) -> Output:
        entry = generator_state(batch.input_ids.device)
        h0 = self.embed(batch)
        hidden, rng = self.run_layers(h0, batch)
        return Output(self.head(hidden[-1], batch), (h0, *hidden), rng, entry)

    def run_layers(self, h: Tensor, batch: Batch, start: int = 0) -> tuple[tuple[Tensor, ...], tuple]:
        mask, hidden, rng = attendable(batch.attention_mask), [], []
        for layer in self.bert.layers[start:]:
            rng.append(generator_state(h.device))
            h = layer(h, mask, batch.task.name)
            hidden.append(h)
        rng.append(generator_state(h.device))
        return tuple(hidden), tuple(rng)


def features(pooled: Tensor, task: Task) -> Tensor:
    """What a head sees: [B,D] as it is. Of sentences encoded alone, [2B,D] with the first ones of all pairs before the
    second ones: u, v, |u-v| and uv beside each other, [B,4D]; or, of a similarity, 5 cos(u, v), [B,1].

    Reimers & Gurevych 2019 (Sentence-BERT), arXiv:1908.10084v1, sections 3 and 6.
    """
    if not task.separate:
        return pooled
    u, v = pooled.chunk(2)
    if compares_by_cosine(task):
        return MOST_SIMILAR * F.cosine_similarity(full(u), full(v)).unsqueeze(1)
    return torch.cat([u, v, (u - v).abs(), u * v], dim=1)


def feature_count(task: Task, width: int) -> int:
    """For vectors [B,width]."""
    if not task.separate:
        return width
    return 1 if compares_by_cosine(task) else 4 * width


def compares_by_cosine(task: Task) -> bool:
    return task.separate and not task.labels

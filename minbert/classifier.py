"""SentenceModel: a BertModel with one head for each task, and the three seams that methods use."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minbert import losses, weights
from minbert.bert import BertModel, expand_attention_mask
from minbert.dropout import Dropout
from minbert.errors import InputError
from minbert.files import read_json_object
from minbert.hub import find_model
from minbert.losses import to_float32
from minbert.random_state import GeneratorState, generator_state
from minbert.task import Batch, Task

MAX_SIMILARITY = 5.0  # the label of two sentences with the same meaning, in STS and STS-B


class Output(NamedTuple):
    """What one pass of a SentenceModel leaves for the methods."""

    logits: Tensor  # [B,C]
    hidden: tuple[Tensor, ...]  # hidden[0] = embedding output, hidden[l] = output of layer l, [B,T,D]
    rng: tuple[GeneratorState, ...]  # rng[l] = generator state on entering layer l+1; rng[L] = on entering the head
    entry: GeneratorState | None = None  # generator state on entering the embeddings


class SentenceModel(nn.Module):
    """logits = W features(dropout(pooled)) + b, with W and b of the batch's task. (A cosine has no dropout.)

    `embed`, `encode` and `head` are the seams: a method can start a second pass at the embeddings or at any layer.
    Under random_state.replay of the recorded state that pass draws the dropout masks of the first.
    """

    def __init__(self, bert: BertModel, tasks: Sequence[Task]):
        super().__init__()
        self.tasks = tuple(tasks)
        self.bert = bert
        config = bert.config
        width = config.hidden_size
        self.dropout = Dropout(config.head_dropout)
        self.heads = nn.ModuleDict({task.name: nn.Linear(feature_count(task, width), task.outputs) for task in tasks})
        self.heads.apply(bert.initialize)
        for task in tasks:
            if compares_by_cosine(task):  # at first the prediction is the similarity itself
                nn.init.ones_(self.heads[task.name].weight)

    @classmethod
    def from_pretrained(cls, name_or_folder: str | Path) -> "SentenceModel":
        """Load a published sequence classifier, in eval mode: its encoder, its head, and the names of its labels.

        Its only task is called "published". Raises InputError if there is no such head.
        """
        folder = find_model(name_or_folder)
        if announces_encoder(folder / "config.json"):
            raise InputError(
                f"{name_or_folder} holds an encoder, not a sequence classifier; for a run's head, name the run's folder"
            )
        bert, tensors = BertModel.from_pretrained(folder), weights.read_tensors(folder)
        family = bert.config.family
        head, dense = family.classifier, family.head_pooler or family.modules["pooler"][0]
        for name in (f"{head}.weight", f"{head}.bias", f"{dense}.weight"):
            if name not in tensors:
                raise InputError(f"{name_or_folder} has no head of a sequence classifier: {name} is missing")
        task = published_task(folder / "config.json", outputs=tensors[f"{head}.bias"].numel())
        model = cls(bert, [task])
        parameters = dict(model.heads[task.name].named_parameters())
        weights.load_head(parameters, {name: f"{head}.{name}" for name in parameters}, tensors, folder)
        return model.eval()

    def embed(self, batch: Batch, noise: Tensor | None = None) -> Tensor:
        """-> hidden[0] [B,T,D]. `noise` [B,T,E] is added to the token vectors (R3F)."""
        return self.bert.embeddings(batch.input_ids, batch.token_type_ids, noise)

    def encode(self, h: Tensor, batch: Batch, start: int = 0) -> tuple[Tensor, ...]:
        """h = hidden[start] -> (hidden[start+1], ..., hidden[L])"""
        return self.run_layers(h, batch, start)[0]

    def head(self, h: Tensor, batch: Batch) -> Tensor:
        """h = hidden[L] [B,T,D] -> logits [B,C]"""
        pooled = self.bert.pool(h)
        if not compares_by_cosine(batch.task):  # two dropout masks would make two equal sentences differ
            pooled = self.dropout(pooled)
        return self.heads[batch.task.name](features(pooled, batch.task))

    def forward(self, batch: Batch) -> Output:
        """embed, layers, head. The generator state is recorded before the embeddings and before each layer."""
        entry = generator_state(batch.input_ids.device)
        h0 = self.embed(batch)
        hidden, rng = self.run_layers(h0, batch)
        return Output(self.head(hidden[-1], batch), (h0, *hidden), rng, entry)

    def run_layers(
        self, h: Tensor, batch: Batch, start: int = 0
    ) -> tuple[tuple[Tensor, ...], tuple[GeneratorState, ...]]:
        """h = hidden[start] -> (hidden[start+1], ..., hidden[L]) and (rng[start], ..., rng[L])."""
        mask, hidden, rng = expand_attention_mask(batch.attention_mask), [], []
        for layer in self.bert.layers[start:]:
            rng.append(generator_state(h.device))
            h = layer(h, mask, batch.task.name)
            hidden.append(h)
        rng.append(generator_state(h.device))
        return tuple(hidden), tuple(rng)


def announces_encoder(path: Path) -> bool:
    """Whether config.json names a class without a head, as weights.save_model does for a head that is not published."""
    names = read_json_object(path).get("architectures")
    return isinstance(names, list) and any(str(name).endswith("Model") for name in names)


def published_task(path: Path, outputs: int) -> Task:
    """The task of a sequence classifier, from its config.json. One output is a regression.

    Raises InputError for several labels of one text, and for a list of labels that is broken.
    """
    config = read_json_object(path)
    kind = config.get("problem_type") or ("regression" if outputs == 1 else "single_label_classification")
    if kind != ("regression" if outputs == 1 else "single_label_classification"):
        raise InputError(f"{path}: problem_type {kind!r} is not supported for a head with {outputs} outputs")
    if outputs == 1:
        loss = {"loss": losses.mean_squared_error, "divergence": losses.squared_error}
        return Task("published", "", ("text",), "", (), (), (), **loss)
    names = config.get("id2label") or {}
    if not isinstance(names, dict):
        raise InputError(f"{path}: id2label must map numbers to labels")
    labels = tuple(str(names.get(str(i), f"LABEL_{i}")) for i in range(outputs))
    return Task("published", "", ("text",), "", labels, (), ())


def features(pooled: Tensor, task: Task) -> Tensor:
    """The input of a task's head: [B,D] as it is, or two separately encoded sentences [2B,D] compared.

    For classes u, v, |u-v| and uv side by side, [B,4D]; for a similarity 5 cos(u, v), [B,1].
    Reimers & Gurevych 2019 (Sentence-BERT), arXiv:1908.10084v1, section 3; uv is added here, their classes have u, v
    and |u-v|.
    """
    if not task.separate:
        return pooled
    u, v = pooled.chunk(2)  # (2B,D) -> two of (B,D)
    if compares_by_cosine(task):
        return MAX_SIMILARITY * F.cosine_similarity(to_float32(u), to_float32(v)).unsqueeze(1)
    return torch.cat([u, v, (u - v).abs(), u * v], dim=1)


def feature_count(task: Task, width: int) -> int:
    """The width of `features` for vectors [B,width]."""
    if not task.separate:
        return width
    return 1 if compares_by_cosine(task) else 4 * width


def compares_by_cosine(task: Task) -> bool:
    """Whether the head scales and shifts the cosine of two separately encoded sentences."""
    return task.separate and not task.labels

"""Masked language modelling: the head, the masking, and a task and a dataset that fit the ordinary loop.

Devlin et al. 2019, section 3.1: 15 % of the tokens are chosen; of these 80 % become [MASK], 10 % a random
token and 10 % stay. The loss is the cross entropy of the chosen ones.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from minbert import losses
from minbert.batches import Batch, Dataset
from minbert.bert import BertModel
from minbert.classifier import Output
from minbert.runtime import derive_seed
from minbert.tasks import Task
from minbert.weights import read_tensors, resolve, save_bert

IGNORE = -100  # label of a token that was not chosen
SHARE, MASKED, RANDOM = 0.15, 0.8, 0.1

# Our module <- the published one, as in weights.NAMES. The decoder is the token embedding.
HEAD_NAMES = {
    "transform.weight": "cls.predictions.transform.dense.weight",
    "transform.bias": "cls.predictions.transform.dense.bias",
    "norm.weight": "cls.predictions.transform.LayerNorm.weight",
    "norm.bias": "cls.predictions.transform.LayerNorm.bias",
    "bias": "cls.predictions.bias",
}


def masked_cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """logits [M,V] of the M chosen tokens; labels [B,T], IGNORE where not chosen."""
    return losses.cross_entropy(logits, labels[labels != IGNORE])


MLM = Task("mlm", "", ("first", "second"), "", (), (), (), loss=masked_cross_entropy)


class MaskedLanguageModel(nn.Module):
    """logits = E LayerNorm(GELU(W h + b)) + bias for each chosen token, E the token embeddings (tied)."""

    def __init__(self, bert: BertModel):
        super().__init__()
        width = bert.config.hidden_size
        self.bert, self.tasks = bert, (MLM,)
        self.transform = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width, eps=bert.config.layer_norm_eps)
        self.bias = nn.Parameter(torch.zeros(bert.config.vocab_size))
        self.transform.apply(bert.initialize)

    @classmethod
    def from_pretrained(cls, name_or_folder) -> "MaskedLanguageModel":
        """A checkpoint that has its MLM head. Raises KeyError naming the tensor that is missing."""
        model = cls(BertModel.from_pretrained(name_or_folder))
        tensors = read_tensors(resolve(name_or_folder))
        model.load_state_dict({ours: tensors[name].float() for ours, name in HEAD_NAMES.items()}, strict=False)
        return model.eval()

    def forward(self, batch: Batch) -> Output:
        encoded = self.bert(batch.input_ids, batch.attention_mask, batch.token_type_ids)
        h = encoded.last_hidden_state[batch.labels != IGNORE]  # (B,T,D) -> (M,D)
        h = self.norm(F.gelu(self.transform(h)))
        return Output(F.linear(h, self.bert.embeddings.token.weight, self.bias), encoded.hidden_states, ())

    def save(self, folder: Path) -> None:
        """config.json and model.safetensors, as transformers' BertForMaskedLM reads them: with the head, and
        without the pooler, which this training never reached."""
        own = self.state_dict()
        head = {name: own[ours] for ours, name in HEAD_NAMES.items()}
        save_bert(self.bert, folder, head, {"architectures": ["BertForMaskedLM"]}, pooler=False)


class Masking:
    """How the tokens of a vocabulary are masked. Ids below `special` ([PAD], [CLS], ...) are never chosen."""

    def __init__(self, vocabulary: int, mask_id: int, special: int):
        self.vocabulary, self.mask_id, self.special = vocabulary, mask_id, special

    def __call__(self, ids: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """ids [B,T] -> (what the model sees [B,T], labels [B,T])"""
        chosen = (torch.rand(ids.shape, generator=generator) < SHARE) & (ids >= self.special)
        chosen[0, 1] = True  # at least one, so that no batch is without a loss
        fate = torch.rand(ids.shape, generator=generator)
        anything = torch.randint(self.special, self.vocabulary, ids.shape, generator=generator)
        seen = torch.where(chosen & (fate < MASKED), self.mask_id, ids)
        return torch.where(chosen & (fate >= 1 - RANDOM), anything, seen), ids.masked_fill(~chosen, IGNORE)


class MaskedDataset:
    """A dataset whose batches are masked anew in each epoch, in a way that follows from (seed, epoch, rows).

    A row's own label, where it has one, is the id of a word that [CLS] is asked for.
    """

    def __init__(self, dataset: Dataset, masking: Masking, seed: int, epoch: int):
        self.dataset, self.task, self.path, self.examples = dataset, MLM, dataset.path, dataset.examples
        self.masking, self.seed, self.epoch = masking, seed, epoch

    def collate(self, rows: list[int]) -> Batch:
        batch = self.dataset.collate(rows)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "mask", self.epoch, rows))
        batch.input_ids, labels = self.masking(batch.input_ids, generator)
        labels[:, 0] = batch.labels.nan_to_num(IGNORE).long()
        batch.labels = labels
        return batch

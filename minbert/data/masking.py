"""Masking for masked language modelling, and a dataset that is masked anew in each epoch.

BERT.  Devlin et al. 2019, arXiv:1810.04805v2:
  (§3.1)  15 % of the tokens are chosen; of these, 80 % become [MASK], 10 % become a random token and 10 % stay.
          The loss is the cross entropy of the chosen tokens.
  D1  The first ordinary token of the batch, mostly the one after the first row's [CLS], is always chosen.
  D2  A row's own label, if there is one, is predicted at [CLS].
"""

from collections.abc import Iterable

import torch
from torch import Tensor

from minbert.data.dataset import Dataset
from minbert.mlm import IGNORE, MLM
from minbert.random_state import derive_seed
from minbert.task import Batch

SHARE, MASKED, RANDOM = 0.15, 0.8, 0.1


class Masking:
    """How the tokens of a vocabulary are masked. Special ids ([PAD], [CLS], ...) are never chosen and never drawn."""

    def __init__(self, vocabulary: int, mask_id: int, special_ids: Iterable[int]):
        self.mask_id, special = mask_id, set(special_ids)
        self.special_ids = torch.tensor(sorted(special))
        self.ordinary_ids = torch.tensor([number for number in range(vocabulary) if number not in special])

    def __call__(self, ids: Tensor, real: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """ids [B,T], and real [B,T], False for padding -> (masked ids [B,T], labels [B,T])"""
        ordinary = real & ~torch.isin(ids, self.special_ids)
        chosen = (torch.rand(ids.shape, generator=generator) < SHARE) & ordinary  # (§3.1)
        first = ordinary.flatten().int().argmax()
        chosen.view(-1)[first] = ordinary.view(-1)[first]  # D1: at least one token, so that every batch has a loss
        fate = torch.rand(ids.shape, generator=generator)
        random_ids = self.ordinary_ids[torch.randint(len(self.ordinary_ids), ids.shape, generator=generator)]
        masked = torch.where(chosen & (fate < MASKED), self.mask_id, ids)  # (§3.1)
        masked = torch.where(chosen & (fate >= 1 - RANDOM), random_ids, masked)  # (§3.1)
        return masked, ids.masked_fill(~chosen, IGNORE)


class MaskedDataset:
    """A dataset whose masks follow from (seed, epoch, rows).

    A row's own label, if it has one, is the id of a word that is to be predicted at [CLS].
    """

    def __init__(self, dataset: Dataset, masking: Masking, seed: int, epoch: int):
        self.dataset, self.task, self.path, self.examples = dataset, MLM, dataset.path, dataset.examples
        self.masking, self.seed, self.epoch = masking, seed, epoch

    def collate(self, rows: list[int], seed: int = 0) -> Batch:
        """Pad the rows to one length, and mask them."""
        batch = self.dataset.collate(rows, seed)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "mask", self.epoch, rows))
        batch.input_ids, labels = self.masking(batch.input_ids, batch.attention_mask, generator)
        labels[:, 0] = batch.labels.nan_to_num(IGNORE).long()  # D2
        batch.labels = labels
        return batch

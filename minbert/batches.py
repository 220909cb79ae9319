"""Examples -> batches: tokenized once, bucketed by length, in an order that follows from (seed, epoch)."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from minbert.readers import Examples
from minbert.runtime import derive_seed
from minbert.tasks import Task
from minbert.tokenizer import Tokenizer

WINDOW = 20  # batches sorted by length together: 91 % real tokens on RTE at batch 32, where 1 gives 38 %


@dataclass
class Batch:
    input_ids: Tensor  # [B,T]; [2B,T] where the task's pairs are encoded separately: first sentences, second ones
    token_type_ids: Tensor  # the same shape
    attention_mask: Tensor  # the same shape, True for real tokens
    labels: Tensor  # [B], class numbers, or numbers; NaN where the file has none
    index: Tensor  # [B], row in the file's order
    task: Task

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device) -> "Batch":
        tensors = {k: v.to(device, non_blocking=True) for k, v in vars(self).items() if isinstance(v, Tensor)}
        return replace(self, **tensors)


class Dataset:
    """The examples of one task and split as token ids, kept in memory end to end: 5 bytes a token."""

    def __init__(self, task: Task, examples: Examples, tokenizer: Tokenizer, max_length: int):
        self.task, self.path, self.examples, self.pad_id = task, examples.path, examples.rows, tokenizer.pad_id
        texts = [example.text for example in self.examples]
        pairs = [example.pair for example in self.examples] if len(task.text) == 2 else None
        if task.separate:  # inputs 0 to N-1, and N to 2N-1
            texts, pairs = texts + pairs, None
        encodings = tokenizer(texts, pairs, max_length)
        self.ids = torch.cat([torch.tensor(encoding.input_ids, dtype=torch.int32) for encoding in encodings])
        self.types = torch.cat([torch.tensor(encoding.token_type_ids, dtype=torch.int8) for encoding in encodings])
        self.input_lengths = torch.tensor([len(encoding.input_ids) for encoding in encodings])
        self.starts = self.input_lengths.cumsum(0) - self.input_lengths
        self.lengths = self.input_lengths.view(-1, len(self)).amax(0)  # of the longer sentence
        self.labels = torch.tensor([float("nan") if row.label is None else row.label for row in self.examples])

    def __len__(self) -> int:
        return len(self.examples)

    def collate(self, rows: list[int]) -> Batch:
        """Pad the chosen rows to the longest of them."""
        inputs = [*rows, *(len(self) + row for row in rows)] if self.task.separate else rows
        lengths = self.input_lengths[inputs]
        spans = [slice(start, start + length) for start, length in zip(self.starts[inputs].tolist(), lengths.tolist())]
        ids, types = [self.ids[span].long() for span in spans], [self.types[span].long() for span in spans]
        return Batch(
            input_ids=pad_sequence(ids, batch_first=True, padding_value=self.pad_id),
            token_type_ids=pad_sequence(types, batch_first=True),
            attention_mask=torch.arange(int(lengths.max())) < lengths[:, None],  # (T) < (B,1) -> (B,T)
            labels=self.labels[rows],
            index=torch.tensor(rows),
            task=self.task,
        )

    def shuffled(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """Row numbers of each batch of one epoch: every row once, rows of a batch of like length.

        Rows are shuffled, each window of WINDOW batches is sorted by length and cut, and the batches are
        shuffled: so batches differ from epoch to epoch, and no order of lengths is left over time.
        """
        generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
        rows = torch.randperm(len(self), generator=generator)
        windows = rows.split(batch_size * WINDOW)
        batches = [b for w in windows for b in w[self.lengths[w].argsort(stable=True)].split(batch_size)]
        return [batches[i].tolist() for i in torch.randperm(len(batches), generator=generator)]

    def by_length(self, batch_size: int) -> list[list[int]]:
        """Row numbers for evaluation: every row once, longest first, with the least padding there can be."""
        return [rows.tolist() for rows in self.lengths.argsort(descending=True, stable=True).split(batch_size)]

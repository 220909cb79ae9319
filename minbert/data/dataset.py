"""Dataset: the examples of one task and split, tokenized once, and cut into batches of similar length."""

import torch
import torch.nn.functional as F
from torch.nn.utils.rnn import pad_sequence

from minbert.data.readers import Examples
from minbert.random_state import derive_seed
from minbert.task import Batch, Task
from minbert.tokenizer import Tokenizer

# How many batches are sorted by length together. On RTE at batch 32, 20 gives 91 % real tokens, 1 gives 38 %.
WINDOW = 20


class Dataset:
    """The token ids of all examples, one after the other in memory: 5 bytes a token.

    With separately encoded pairs there are 2N inputs: the first sentences are 0 to N-1, the second ones N to 2N-1.
    The length T of a batch is a multiple of `round_to`, or `max_length`. So compiled layers see few lengths.
    """

    def __init__(self, task: Task, examples: Examples, tokenizer: Tokenizer, max_length: int, round_to: int = 1):
        self.max_length, self.round_to = max_length, round_to
        self.task, self.path, self.examples, self.pad_id = task, examples.path, examples.rows, tokenizer.pad_id
        texts = [example.text for example in self.examples]
        pairs = [example.pair for example in self.examples] if len(task.text) == 2 else None
        if task.separate:
            texts, pairs = texts + pairs, None
        encodings = tokenizer(texts, pairs, max_length)
        self.ids = torch.cat([torch.tensor(encoding.input_ids, dtype=torch.int32) for encoding in encodings])
        self.types = torch.cat([torch.tensor(encoding.token_type_ids, dtype=torch.int8) for encoding in encodings])
        self.input_lengths = torch.tensor([len(encoding.input_ids) for encoding in encodings])
        self.starts = self.input_lengths.cumsum(0) - self.input_lengths
        self.lengths = self.input_lengths.view(-1, len(self)).amax(0)  # [N], of the longer sentence
        self.labels = torch.tensor([float("nan") if row.label is None else row.label for row in self.examples])

    def __len__(self) -> int:
        return len(self.examples)

    def collate(self, rows: list[int], seed: int = 0) -> Batch:
        """Pad the chosen rows to the longest of them, or somewhat longer (`round_to`). `seed` goes into the batch."""
        inputs = [*rows, *(len(self) + row for row in rows)] if self.task.separate else rows
        lengths = self.input_lengths[inputs]
        spans = [slice(start, start + length) for start, length in zip(self.starts[inputs].tolist(), lengths.tolist())]
        ids, types = [self.ids[span].long() for span in spans], [self.types[span].long() for span in spans]
        longest = int(lengths.max())
        width = min(-(-longest // self.round_to) * self.round_to, self.max_length)
        extra = (0, width - longest)
        return Batch(
            input_ids=F.pad(pad_sequence(ids, batch_first=True, padding_value=self.pad_id), extra, value=self.pad_id),
            token_type_ids=F.pad(pad_sequence(types, batch_first=True), extra),
            attention_mask=torch.arange(width) < lengths[:, None],  # (T) < (B,1) -> (B,T)
            labels=self.labels[rows],
            index=torch.tensor(rows),
            task=self.task,
            seed=seed,
        )

    def shuffled(self, batch_size: int, seed: int, epoch: int) -> list[list[int]]:
        """The rows of each batch of one epoch: every row once, with rows of similar length in one batch.

        The rows are shuffled. Each window of WINDOW batches is sorted by length and cut into batches, and then the
        batches are shuffled. So the batches differ from epoch to epoch, and short ones do not come first.
        """
        generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
        rows = torch.randperm(len(self), generator=generator)
        batches = []
        for window in rows.split(batch_size * WINDOW):
            by_length = window[self.lengths[window].argsort(stable=True)]
            batches += by_length.split(batch_size)
        return [batches[i].tolist() for i in torch.randperm(len(batches), generator=generator)]

    def by_length(self, batch_size: int) -> list[list[int]]:
        """The rows of each batch for evaluation: every row once, longest first, with as little padding as possible."""
        return [rows.tolist() for rows in self.lengths.argsort(descending=True, stable=True).split(batch_size)]

"""Task and Batch: what an example's labels mean, and the examples of one forward pass."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from minbert import losses


@dataclass(frozen=True)
class Task:
    """One task: its files, its labels, its loss and its metrics. The table of them is data/tasks.py."""

    name: str
    folder: str  # the folder of its files, below --data
    text: tuple[str, ...]  # the column of the sentence, or the two columns of the pair
    label: str  # the column of the label
    labels: tuple[str, ...]  # how the files write class 0, 1, ...; () for a regression
    metrics: tuple[str, ...]  # names in metrics.METRICS
    score: tuple[str, ...]  # the task's score is the mean of these metrics
    loss: Callable[[Tensor, Tensor], Tensor] = losses.cross_entropy  # (logits [B,C], labels [B]) -> scalar
    divergence: Callable[[Tensor, Tensor], Tensor] = losses.symmetric_kl  # (logits [B,C], logits [B,C]) -> scalar
    files: tuple[tuple[str, str], ...] = (("train", "train.tsv"), ("dev", "dev.tsv"), ("test", "test.tsv"))
    # The same splits under other names, as other courses have them: read if those above are missing.
    other_files: tuple[tuple[tuple[str, str], ...], ...] = ()
    header: tuple[str, ...] = ()  # the columns of train and dev files that have no header line
    skip_short: bool = False  # the official files hold rows that lost columns: leave them out
    one_logit: bool = False  # two classes share one logit: class 1 where it is above 0
    own: bool = False  # from a user's task file: readers find out the form of its files
    separate: bool = False  # the sentences of a pair are encoded separately, and their vectors compared

    @property
    def segments(self) -> int:
        """The number of sentences in one input of BERT."""
        return 1 if self.separate else len(self.text)

    @property
    def outputs(self) -> int:
        """C: one logit for each class, or a single number."""
        return len(self.labels) if self.labels and not self.one_logit else 1

    def splits(self, name: str) -> tuple[str, ...]:
        """The splits that `name` stands for: MNLI's dev is dev and dev-mismatched."""
        return tuple(split for split, _ in self.files if split == name or split.startswith(name + "-"))

    def paths(self, data: Path, split: str) -> list[Path]:
        """Where the file of a split may be, the first choice first."""
        return [Path(data) / self.folder / dict(files)[split] for files in (self.files, *self.other_files)]


@dataclass
class Batch:
    """The examples of one forward pass, all of one task.

    With separately encoded pairs the inputs are [2B,T]: first the B first sentences, then the B second ones.
    """

    input_ids: Tensor  # [B,T]
    token_type_ids: Tensor  # [B,T]
    attention_mask: Tensor  # [B,T], True for real tokens
    labels: Tensor  # [B], class indices, or real values of a regression; NaN where the file has no label
    index: Tensor  # [B], rows in the file's order
    task: Task
    seed: int = 0  # the dropout masks and the noise of this batch are drawn from it

    def __len__(self) -> int:
        return len(self.index)

    def to(self, device: torch.device | str) -> "Batch":
        """Copy the tensors to a device.

        A copy to a GPU starts from pinned memory (which stays in RAM), so that the program does not wait for it.
        """
        tensors = {k: v for k, v in vars(self).items() if isinstance(v, Tensor)}
        if torch.device(device).type == "cuda":
            tensors = {k: v.pin_memory() if v.device.type == "cpu" else v for k, v in tensors.items()}
        return replace(self, **{k: v.to(device, non_blocking=True) for k, v in tensors.items()})

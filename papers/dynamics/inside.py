"""What this paper's figures look at inside a model: attention probabilities, and the hidden states of chosen tokens.

A model may have the modules of a method in it (adapters, LoRA, LHUC). Nothing stays in the model afterwards.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.errors import InputError
from minbert.task import Batch
from papers.figure import progress
from papers.finished_run import batches
from regularizers.base import Wrapper, unwrap


def as_task_of(model: SentenceModel, batch: Batch) -> Batch:
    """The batch as an input of the model's own task: inserted modules exist for that task only."""
    return replace(batch, task=model.tasks[0])


@torch.no_grad()
def hidden_states(model: SentenceModel, batch: Batch) -> tuple[Tensor, ...]:
    """hidden[0] = the output of the embeddings, hidden[l] = the output of layer l, [B,T,D] each. No head is used."""
    batch = as_task_of(model, batch)
    h = model.embed(batch)
    return (h, *model.encode(h, batch))


@torch.no_grad()
def attention_probabilities(model: SentenceModel, batch: Batch) -> list[Tensor]:
    """The probabilities [B,H,T,T] of each layer, before dropout. Raises InputError if a method hides them."""
    with recorded_attention(model) as probabilities:
        hidden_states(model, batch)
    if len(probabilities) != len(model.bert.layers):
        raise InputError("a method of this run replaces the attention, and its probabilities cannot be seen")
    return probabilities


@contextmanager
def recorded_attention(model: SentenceModel) -> Iterator[list[Tensor]]:
    """A list that gets the probabilities [B,H,T,T] of each attention that runs in this context, in order.

    A hook computes them from the attention's own input. The hooks are removed at the end, also after an error.
    """
    probabilities: list[Tensor] = []

    def record(attention: nn.Module, arguments: tuple, output: Tensor) -> None:
        probabilities.append(attention.explicit(*arguments)[1])

    handles = [attention.register_forward_hook(record) for attention in attention_modules(model)]
    try:
        yield probabilities
    finally:
        for handle in handles:
            handle.remove()


def attention_modules(model: SentenceModel) -> list[nn.Module]:
    """The modules with `explicit`, below the wrappers that do not have it. ALBERT's layers share one: it comes once."""
    modules: dict[int, nn.Module] = {}
    for layer in model.bert.layers:
        attention = unwrap(layer).attention
        while isinstance(attention, Wrapper) and not hasattr(attention, "explicit"):
            attention = attention.base
        modules[id(attention)] = attention
    return list(modules.values())


class TokenSample:
    """A fixed random subset of the real tokens of some datasets. It does not depend on the batches or on a model."""

    def __init__(self, datasets: Sequence[Dataset], most: int):
        """Choose `most` tokens, or all if there are fewer."""
        self.datasets = tuple(datasets)
        counts = [len(dataset.ids) for dataset in datasets]
        shuffled = torch.randperm(sum(counts), generator=torch.Generator().manual_seed(0))
        chosen = shuffled[:most].sort().values
        rows = torch.full((sum(counts),), -1)  # each token's row in the matrix of chosen tokens
        rows[chosen] = torch.arange(len(chosen))
        self.size, self.rows = len(chosen), rows.split(counts)

    def collect(
        self, states: Callable[[Batch], Sequence[Tensor]], batch_size: int, device: torch.device, text: str
    ) -> list[Tensor]:
        """states(batch) gives S tensors [B,T,D] -> S matrices [n,D] on the CPU: one row for each chosen token.

        `text` stands in front of the progress bar.
        """
        matrices: list[Tensor] = []
        for number, dataset in enumerate(self.datasets):
            total = -(-len(dataset) // batch_size)
            for batch in progress(batches(dataset, batch_size, device), text, total):
                rows = self.rows_of(number, batch)
                chosen = rows >= 0
                of_batch = states(batch)
                matrices = matrices or [torch.empty(self.size, h.shape[-1], dtype=h.dtype) for h in of_batch]
                for matrix, h in zip(matrices, of_batch, strict=True):
                    matrix[rows[chosen]] = h[chosen.to(h.device)].cpu()
        return matrices

    def rows_of(self, number: int, batch: Batch) -> Tensor:
        """The row of each token of a batch of that dataset, [B,T]; -1 for padding, and for tokens not chosen."""
        dataset, mask, inputs = self.datasets[number], batch.attention_mask.cpu(), batch.index.cpu()
        if dataset.task.separate:
            inputs = torch.cat([inputs, len(dataset) + inputs])  # first sentences, then second ones, as in the batch
        tokens = dataset.starts[inputs][:, None] + torch.arange(mask.shape[1])  # (B,1) + (T) -> (B,T)
        return self.rows[number][tokens.where(mask, 0)].where(mask, -1)

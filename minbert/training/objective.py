"""Objective: the number that training minimises."""

import torch
from torch import Tensor, nn

from minbert.classifier import SentenceModel
from minbert.task import Batch


class Objective(nn.Module):
    """task weight x loss + the sum of the method's penalties. DDP wraps this module, and a checkpoint saves it."""

    def __init__(self, model: SentenceModel, method: nn.Module, loss_weights: dict[str, float] | None = None):
        super().__init__()
        self.model = model
        self.method = method  # a regularizers.base.Method; minbert does not import it
        self.loss_weights = loss_weights or {}  # by the task's name; 1 for a task that is not there

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """-> (the scalar to minimise, {"task": the loss, and each penalty by name}), means over the batch.

        The logged loss is without the task's weight.
        """
        torch.manual_seed(batch.seed)  # dropout follows from the batch alone, so no generator state has to be saved
        clean = self.model(batch)
        loss = self.method.loss(self.model, batch, clean)
        penalties = self.method.penalty(self.model, batch, clean)
        total = self.loss_weights.get(batch.task.name, 1.0) * loss
        for penalty in penalties.values():
            total = total + penalty
        terms = {"task": loss, **penalties}
        return total, {name: term.detach() for name, term in terms.items()}

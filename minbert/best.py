"""The weights of the best epoch so far."""

import torch
from torch import nn


class Best:
    """A copy of the model as it was after the epoch with the highest score, the first of equals.

    It has an optimizer's state_dict and load_state_dict, and so is part of a checkpoint as optimizers are. Inactive, it
    does nothing.
    """

    def __init__(self, model: nn.Module, active: bool):
        self.model, self.active = model, active
        self.score, self.weights = float("-inf"), {}

    def offer(self, scores: dict) -> None:
        """An epoch has ended, with these scores of the splits."""
        if self.active and scores["dev"]["score"] > self.score:
            self.score = scores["dev"]["score"]
            self.weights = {name: t.detach().to("cpu", copy=True) for name, t in self.model.state_dict().items()}

    def restore(self) -> None:
        """Put the best weights back into the model."""
        if self.weights:
            self.model.load_state_dict(self.weights)

    def state_dict(self) -> dict:
        score = torch.tensor(self.score, dtype=torch.float64)
        return {"state": {0: {"score": score}, 1: self.weights} if self.weights else {}}

    def load_state_dict(self, state: dict) -> None:
        slots = state["state"]
        if slots:
            self.score, self.weights = float(slots[0]["score"]), slots[1]


def best_of(history: list[dict]) -> dict:
    """The epoch with the best dev score, the first of equals: that which Best keeps."""
    return max(history, key=lambda epoch: epoch["dev"]["score"])

"""The weights of the best epoch so far."""

from torch import Tensor, nn


class BestWeights:
    """A copy of the model after the epoch with the highest dev score; the first of equal scores. It is on the CPU."""

    def __init__(self):
        self.score = float("-inf")
        self.weights: dict[str, Tensor] = {}

    def update(self, model: nn.Module, score: float) -> None:
        """An epoch has ended with this dev score."""
        if score > self.score:
            self.score = score
            self.weights = {name: tensor.detach().to("cpu", copy=True) for name, tensor in model.state_dict().items()}

    def load_into(self, model: nn.Module) -> None:
        """Put the best weights back into the model."""
        if self.weights:
            model.load_state_dict(self.weights)


def best_epoch(history: list[dict]) -> dict:
    """The entry of the epoch with the best dev score, the first of equals: the epoch that BestWeights keeps."""
    return max(history, key=lambda epoch: epoch["dev"]["score"])

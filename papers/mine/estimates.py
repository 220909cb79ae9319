"""Two estimates of the mutual information between the [CLS] states of neighbouring layers: by binning, and by MINE.

`information.py` draws them as the paper's Figure 2 (left), and has the Differences. `benchmarks/information.py` takes
the estimate by MINE from here. n examples, M layers, D width, P = M - 1 pairs of layers.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch

from minbert.classifier import SentenceModel
from minbert.task import Batch
from regularizers import first_stage
from regularizers.estimators import adam
from regularizers.mine import Mine

RATE = 5e-4  # of the fit of the estimators


def entropy(codes: np.ndarray) -> float:
    """-Σ p log p in nats, for integers [n] whose shares are p."""
    counts = np.unique(codes, return_counts=True)[1]
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def bin_numbers(values: np.ndarray, bins: int) -> np.ndarray:
    """The number 0 to bins - 1 of each value's bin, int64 [n]. The bins are equally wide, from minimum to maximum.

    The maximum belongs to the last bin. If all values are equal, all are in bin 0.
    """
    values = values.astype(np.float64)
    low, high = values.min(), values.max()
    if low == high:
        return np.zeros(len(values), np.int64)
    return np.minimum(((values - low) / (high - low) * bins).astype(np.int64), bins - 1)


def binned_information(x: np.ndarray, y: np.ndarray, bins: int) -> float:
    """I(X,Y) = H(X) + H(Y) - H(X,Y) of two channels [n], in nats, from counts in `bins` bins each."""
    a, b = bin_numbers(x, bins), bin_numbers(y, bins)
    # A table of bins x bins counts would have 2.5e9 cells for 50,000 bins: one number stands for each pair of bins.
    return entropy(a) + entropy(b) - entropy(a * bins + b)


def information_by_binning(states: np.ndarray, channels: Sequence[int], bins: int) -> np.ndarray:
    """The information between a channel of layer i and the same channel of layer i + 1: [n,M,D] -> [C,P]."""
    pairs = range(states.shape[1] - 1)
    return np.array([[binned_information(states[:, i, c], states[:, i + 1, c], bins) for i in pairs] for c in channels])


def shuffle_layers(states: np.ndarray) -> np.ndarray:
    """[n,M,D] with another order of the examples in each layer, so that the layers share no information."""
    generator = np.random.default_rng(0)
    return np.stack([states[generator.permutation(len(states)), i] for i in range(states.shape[1])], axis=1)


@torch.no_grad()
def cls_states(model: SentenceModel, batches: Sequence[Batch]) -> np.ndarray:
    """The [CLS] states T_1 to T_M of all examples, without dropout: [n,M,D]."""
    model.eval()
    return torch.cat([Mine().states(model(batch), batch) for batch in batches]).float().cpu().numpy()


def information_by_mine(model: SentenceModel, batches: Sequence[Batch]) -> torch.Tensor:
    """The information between neighbouring layers, in nats [P]: the bound of fresh estimators on a held-out tenth.

    The estimators are fitted as the first stage of `mine` fits its own, with dropout on. The model is left in the mode
    of training. All batches have the same size, because a smaller one can show less information.
    """
    torch.manual_seed(0)  # the same projections, first weights and order of the batches for every model
    method = Mine()
    method.attach(model)
    (estimators,) = method.estimators.values()
    estimators.to(batches[0].input_ids.device)
    passes = partial(method.pass_over, model.train(), lambda: batches)
    first_stage.standardise(estimators, passes)
    draws = first_stage.draw(estimators, passes)
    first_stage.fit(estimators, draws, adam(estimators, lr=RATE))
    return first_stage.measure(estimators, [z for one_draw in draws for z in one_draw[::10]])

"""What predictions say beyond one score: confusion, scores by class, calibration, the largest mistakes.

Shapes: labels and predictions [N], class indices; probabilities [N,C]; losses [N]. Everything is computed in float64.

On Calibration of Modern Neural Networks.  Guo et al. 2017, arXiv:1706.04599v2:
  (§2)  reliability diagram: the accuracy of the examples of each bin (m-1)/M < confidence <= m/M
  (3)   ECE = Σ_m |B_m|/n · |acc(B_m) - conf(B_m)|
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minbert import metrics

BINS = 10  # of confidence, of equal width


class ClassScores(NamedTuple):
    """The scores of one class. A share of nothing is None."""

    label: str
    number: int  # examples with this label
    predicted: int  # predictions of this class
    precision: float | None
    recall: float | None
    f1: float


class Bin(NamedTuple):
    """The examples whose confidence, the probability of the predicted class, is above `low` and at most `high`."""

    low: float
    high: float
    number: int
    confidence: float | None  # mean; None in an empty bin
    accuracy: float | None


def confusion(labels: np.ndarray, predictions: np.ndarray, classes: int) -> np.ndarray:
    """Counts [C,C]: a row for each label, a column for each prediction."""
    counts = np.zeros((classes, classes), int)
    np.add.at(counts, (labels.astype(int), predictions.astype(int)), 1)
    return counts


def class_scores(labels: np.ndarray, predictions: np.ndarray, names: Sequence[str]) -> list[ClassScores]:
    """Precision, recall and F1 of each class."""
    counts = confusion(labels, predictions, len(names))
    scores = []
    for i, name in enumerate(names):
        right, number, predicted = int(counts[i, i]), int(counts[i].sum()), int(counts[:, i].sum())
        precision, recall = right / predicted if predicted else None, right / number if number else None
        scores.append(
            ClassScores(name, number, predicted, precision, recall, metrics.f1(predictions == i, labels == i))
        )
    return scores


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = BINS) -> list[Bin]:
    """Confidence and accuracy of each bin."""
    confidences, right = probabilities.max(1), probabilities.argmax(1) == labels
    edges = np.arange(bins + 1) / bins
    bin_of = np.clip(np.searchsorted(edges, confidences, side="left") - 1, 0, bins - 1)
    result = []
    for m in range(bins):
        inside = bin_of == m
        number = int(inside.sum())
        means = (float(confidences[inside].mean()), float(right[inside].mean())) if number else (None, None)
        result.append(Bin(float(edges[m]), float(edges[m + 1]), number, *means))  # (§2)
    return result


def calibration_error(bins: Sequence[Bin]) -> float:
    """The expected calibration error."""
    gaps = [bin.number * abs(bin.accuracy - bin.confidence) for bin in bins if bin.number]
    return sum(gaps) / sum(bin.number for bin in bins)  # (3)


def largest_losses(losses: np.ndarray, rows: np.ndarray, number: int) -> list[int]:
    """At most `number` of these rows, with the largest loss first; rows of equal loss in the file's order."""
    return rows[np.argsort(-losses[rows], kind="stable")][:number].tolist()

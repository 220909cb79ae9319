"""The metrics of GLUE, the majority baseline, and the test for a failed run. Everything is computed in float64.

Shapes: predictions and labels [N], class indices, or real values of a regression.

On the Stability of Fine-tuning BERT.  Mosbach et al. 2021, arXiv:2006.04884v3:
  (§3)  a run has failed if its score is not above that of the majority class
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minbert.task import Task


def accuracy(predictions: np.ndarray, labels: np.ndarray) -> float:
    """The share of predictions that equal the label."""
    return float(np.mean(predictions == labels))


def f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1; 0 if class 1 is neither predicted nor a label."""
    true_positive = np.sum((predictions == 1) & (labels == 1))
    positives = np.sum(predictions == 1) + np.sum(labels == 1)
    return float(2 * true_positive / positives) if positives else 0.0


def macro_f1(predictions: np.ndarray, labels: np.ndarray) -> float:
    """The mean of F1 over the classes that are predicted or a label."""
    classes = np.union1d(predictions, labels)
    return float(np.mean([f1(predictions == c, labels == c) for c in classes]))


def mcc(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Matthews correlation of two classes: the Pearson correlation of two 0/1 variables; 0 where it is undefined."""
    return pearson(predictions == 1, labels == 1)


def pearson(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Pearson correlation; 0 if one side is constant or not finite (papers that report NaN mean a failed run)."""
    x, y = np.asarray(predictions, np.float64), np.asarray(labels, np.float64)
    if not (np.isfinite(x).all() and np.isfinite(y).all()) or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    return float(x @ y / np.sqrt((x @ x) * (y @ y)))


def spearman(predictions: np.ndarray, labels: np.ndarray) -> float:
    """Pearson correlation of the ranks, with average ranks for ties; 0 where Pearson's is 0 by definition."""
    if not (np.isfinite(predictions).all() and np.isfinite(labels).all()):
        return 0.0
    return pearson(ranks(predictions), ranks(labels))


def ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1; equal values share the average of their ranks."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # the highest rank of each distinct value
    return (last - (counts - 1) / 2)[inverse]


METRICS = {
    "accuracy": accuracy,
    "f1": f1,
    "macro-f1": macro_f1,
    "mcc": mcc,
    "pearson": pearson,
    "spearman": spearman,
}
MISMATCHED = "-mismatched"  # the end of the names of metrics of MNLI's second dev file
CORRELATIONS = {"mcc", "pearson", "spearman"}  # from -1 to 1, the others from 0 to 1


def predictions_from_logits(task: Task, logits: np.ndarray) -> np.ndarray:
    """Logits [N,C] -> class indices [N], or the real values [N] of a regression."""
    if task.one_logit:
        return (logits[:, 0] > 0).astype(int)
    return logits.argmax(-1) if task.labels else logits[:, 0]


class Answer(NamedTuple):
    """What a model says about one text."""

    prediction: str | float  # the most probable label, or the number of a regression
    probabilities: dict[str, float]  # by label; {} for a regression


def answers_from_logits(task: Task, logits: np.ndarray) -> list[Answer]:
    """Logits [N,C] -> answers."""
    if not task.labels:
        return [Answer(float(row[0]), {}) for row in logits]
    table = probabilities(task, logits)
    return [Answer(task.labels[int(row.argmax())], dict(zip(task.labels, row.tolist(), strict=True))) for row in table]


def probabilities(task: Task, logits: np.ndarray) -> np.ndarray:
    """Logits [N,C], or [N,1] where two classes share one logit -> probabilities [N, number of labels] in float64."""
    x = np.asarray(logits, np.float64)
    if task.one_logit:  # the logit of class 1 against a logit of 0
        x = np.concatenate([np.zeros_like(x), x], axis=1)
    x = np.exp(x - x.max(axis=1, keepdims=True))
    return x / x.sum(axis=1, keepdims=True)


def compute_metrics(task: Task, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """{name: value} of the task's metrics."""
    return {name: METRICS[name](predictions, labels) for name in task.metrics}


def majority_metrics(task: Task, labels: np.ndarray) -> dict[str, float]:
    """The task's metrics for always predicting the most frequent class; for a constant number they are 0."""
    answer = np.bincount(labels.astype(int)).argmax() if task.labels else 0.0
    return compute_metrics(task, np.full(labels.shape, answer), labels)


def describe_regression(predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """What no correlation shows: the error, and whether the predictions have the labels' mean and spread."""
    x, y = np.asarray(predictions, np.float64), np.asarray(labels, np.float64)
    return {
        "mean_squared_error": float(np.mean((x - y) ** 2)),
        "prediction_mean": float(x.mean()),
        "prediction_std": float(x.std()),
        "label_mean": float(y.mean()),
        "label_std": float(y.std()),
    }


def score(task: Task, values: dict[str, float]) -> float:
    """The one number of a task: GLUE's mean over its metrics (MRPC: accuracy and F1) and files.

    MNLI has two dev files, whose metrics are accuracy and accuracy-mismatched.
    """
    return float(np.mean([value for name, value in values.items() if name.removesuffix(MISMATCHED) in task.score]))


def average_score(tasks: Sequence[Task], scores: dict[str, float]) -> float:
    """The mean of the tasks' scores as on CS224N's leaderboard, where a correlation r counts as (r + 1)/2."""
    shares = []
    for task in tasks:
        is_correlation = set(task.score) <= CORRELATIONS
        shares.append((scores[task.name] + 1) / 2 if is_correlation else scores[task.name])
    return float(np.mean(shares))


# How much rounding alone can move the real value that a regression predicts, as a share of it. In float32 the sums of
# many layers are off by some units of 2^-23. In fp16 and bf16 the value itself is rounded to 11 or 8 bits.
ROUNDING = {"fp32": 2.0**-20, "fp16": 2.0**-10, "bf16": 2.0**-7}


def failure_reason(
    logits: np.ndarray, predictions: np.ndarray, score: float, majority_score: float, precision: str = "fp32"
) -> str:
    """Why a run counts as failed, or "".

    `precision` is the precision of the run's matrix products.
    """
    if not np.isfinite(logits).all():
        return "an output is not a finite number"
    if np.ptp(predictions) == 0:
        return "every example gets the same prediction"
    is_real = np.issubdtype(predictions.dtype, np.floating)
    if is_real and np.ptp(predictions) <= ROUNDING[precision] * np.abs(predictions).max():
        return "every example gets the same prediction, within rounding"
    if score <= majority_score:  # (§3)
        return f"score {score:.4f} is not above the majority baseline's {majority_score:.4f}"
    return ""

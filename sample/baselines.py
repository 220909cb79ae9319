"""Baselines without BERT: the majority class, and a logistic or linear regression on bags of words.

    python -m sample.baselines                      # the dev scores of every task of the sample

The features of the regression: the words of the first text, the words of the second text, the share of each text's
words that the other text has, and both lengths. It is fitted with L-BFGS. The strength of its weight decay is the best
of three on the dev set, so the baseline is rather too good than too bad.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from minbert import metrics
from minbert.data.readers import Example, read_examples
from minbert.data.tasks import TASKS
from minbert.task import Task

DATA = Path(__file__).parent / "data"
DECAYS = (1e-3, 1e-2, 1e-1)


def features(rows: list[Example], vocabulary: dict[str, int]) -> Tensor:
    """The features [N, 2V+4] of N examples, with a vocabulary of V words."""
    size = len(vocabulary)
    x = torch.zeros(len(rows), 2 * size + 4)
    for i, row in enumerate(rows):
        first, second = row.text.split(), (row.pair or "").split()
        for offset, words in ((0, first), (size, second)):
            for word in words:
                if word in vocabulary:
                    x[i, offset + vocabulary[word]] = 1.0
        shared = len(set(first) & set(second))
        x[i, 2 * size :] = torch.tensor(
            [shared / len(set(first)), shared / max(1, len(set(second))), len(first) / 20, len(second) / 20]
        )
    return x


def fit_linear(task: Task, x: Tensor, y: Tensor, decay: float) -> tuple[Tensor, Tensor]:
    """Fit logits = W x + b to x [N,F], y [N]. Returns W [C,F] and b [C]."""
    weight = torch.zeros(task.outputs, x.shape[1], requires_grad=True)
    bias = torch.zeros(task.outputs, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=100, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = task.loss(F.linear(x, weight, bias), y) + decay / 2 * weight.square().sum() / 10
        loss.backward()
        return loss

    optimizer.step(closure)
    return weight.detach(), bias.detach()


def baseline_scores(task: Task, data: Path = DATA) -> tuple[float, float]:
    """The dev scores of the majority class, and of the best of the three regressions."""
    train, dev = (read_examples(task, data, split).rows for split in ("train", "dev"))
    words = sorted({word for row in train for word in f"{row.text} {row.pair or ''}".split()})
    vocabulary = {word: i for i, word in enumerate(words)}
    x, y = features(train, vocabulary), torch.tensor([row.label for row in train])
    x_dev, y_dev = features(dev, vocabulary), np.array([row.label for row in dev])
    scores = []
    for decay in DECAYS:
        weight, bias = fit_linear(task, x, y, decay)
        predictions = metrics.predictions_from_logits(task, F.linear(x_dev, weight, bias).numpy())
        scores.append(metrics.score(task, metrics.compute_metrics(task, predictions, y_dev)))
    return metrics.score(task, metrics.majority_metrics(task, y_dev)), max(scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--tasks", nargs="+", default=["rte", "mrpc", "cola", "stsb", "sst5", "cfimdb", "quora", "sts"])
    args = parser.parse_args()
    print(f"{'task':8} {'majority':>9} {'bag of words':>13}")
    for name in args.tasks:
        majority, bag_of_words = baseline_scores(TASKS[name], args.data)
        print(f"{name:8} {majority:9.4f} {bag_of_words:13.4f}", flush=True)


if __name__ == "__main__":
    main()

"""Metrics by their textbook formulas, written as loops, on random and on degenerate inputs."""

import math
import random

import numpy as np
import pytest

from minbert import metrics
from minbert.data.tasks import TASKS


def confusion(p, y):
    cells = {(a, b): 0 for a in (0, 1) for b in (0, 1)}
    for a, b in zip(p, y):
        cells[int(a), int(b)] += 1
    return cells[1, 1], cells[1, 0], cells[0, 1], cells[0, 0]  # TP, FP, FN, TN


def slow_pearson(x, y):
    mx, my = sum(x) / len(x), sum(y) / len(y)
    cov = sum((a - mx) * (b - my) for a, b in zip(x, y))
    return cov / math.sqrt(sum((a - mx) ** 2 for a in x) * sum((b - my) ** 2 for b in y))


def slow_ranks(x):
    return [sum(b < a for b in x) + (sum(b == a for b in x) + 1) / 2 for a in x]


@pytest.mark.parametrize("seed", range(5))
def test_metrics_of_classes_equal_their_textbook_formulas(seed):
    rng = random.Random(seed)
    p, y = (np.array([rng.random() < share for _ in range(37)]).astype(int) for share in (0.3, 0.6))
    tp, fp, fn, tn = confusion(p, y)
    assert metrics.accuracy(p, y) == pytest.approx((tp + tn) / 37)
    precision, recall = tp / (tp + fp), tp / (tp + fn)
    assert metrics.f1(p, y) == pytest.approx(2 * precision * recall / (precision + recall))
    denominator = math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert metrics.mcc(p, y) == pytest.approx((tp * tn - fp * fn) / denominator)


@pytest.mark.parametrize("seed", range(5))
def test_correlations_equal_their_textbook_formulas_with_ties_too(seed):
    rng = random.Random(seed)
    x, y = ([rng.choice([0, 1, 1.5, 4]) + rng.choice([0, 0, rng.random()]) for _ in range(29)] for _ in range(2))
    assert metrics.pearson(x, y) == pytest.approx(slow_pearson(x, y))
    assert metrics.ranks(x) == pytest.approx(slow_ranks(x))
    assert metrics.spearman(x, y) == pytest.approx(slow_pearson(slow_ranks(x), slow_ranks(y)))


def test_a_regression_is_described_by_its_error_and_by_means_and_deviations():
    x, y = [1.5, 2.0, 4.0, 0.5], [1.0, 5.0, 3.0, 0.0]
    values = metrics.describe_regression(np.array(x, np.float32), np.array(y))
    assert values.pop("mean_squared_error") == pytest.approx((0.25 + 9 + 1 + 0.25) / 4)
    for name, numbers in (("prediction", x), ("label", y)):
        mean = sum(numbers) / 4
        assert values.pop(f"{name}_mean") == pytest.approx(mean)
        assert values.pop(f"{name}_std") == pytest.approx(math.sqrt(sum((v - mean) ** 2 for v in numbers) / 4))
    assert values == {}


def test_undefined_metrics_are_0():
    zeros, mixed = np.zeros(4, int), np.array([0, 1, 1, 0])
    assert metrics.f1(zeros, zeros) == 0
    assert metrics.mcc(zeros, mixed) == metrics.mcc(mixed, zeros) == 0
    assert metrics.pearson(np.ones(4), mixed) == metrics.spearman(np.ones(4), mixed) == 0
    for correlation in (metrics.pearson, metrics.spearman):
        assert correlation(np.array([0.1, np.nan, 2, 3]), mixed) == 0


def test_majority_baselines_are_those_of_the_papers():
    """RTE dev has 146 of 277 entailed, MRPC dev 279 of 408 paraphrases: .53, and .748 = mean of .684 and .812."""
    rte = metrics.majority_metrics(TASKS["rte"], np.array([0] * 146 + [1] * 131))
    assert rte == {"accuracy": pytest.approx(146 / 277)}
    mrpc = metrics.majority_metrics(TASKS["mrpc"], np.array([1] * 279 + [0] * 129))
    assert metrics.score(TASKS["mrpc"], mrpc) == pytest.approx((279 / 408 + 2 * 279 / (279 + 408)) / 2)
    assert metrics.majority_metrics(TASKS["cola"], np.array([1] * 7 + [0] * 3))["mcc"] == 0
    assert metrics.majority_metrics(TASKS["stsb"], np.arange(5.0)) == {"pearson": 0, "spearman": 0}


def test_the_score_of_two_files_is_their_mean():
    """MNLI has two dev files, and its metrics are accuracy and accuracy-mismatched."""
    assert metrics.score(TASKS["mnli"], {"accuracy": 0.75, "accuracy-mismatched": 0.4}) == pytest.approx(0.575)
    assert metrics.score(TASKS["cola"], {"mcc": 0.3, "accuracy": 0.8}) == 0.3


def test_the_average_over_tasks_maps_correlations_to_shares():
    """From -1..1 to 0..1: Matthews', Pearson's, Spearman's; accuracy and F1 are shares."""
    scores = {"cola": 0.2, "mrpc": 0.7, "stsb": -0.4, "mnli": 0.6}
    assert metrics.average_score([TASKS[name] for name in scores], scores) == pytest.approx((0.6 + 0.7 + 0.3 + 0.6) / 4)


def test_the_average_over_tasks_is_that_of_the_course():
    """(SST accuracy + paraphrase accuracy + (STS r + 1)/2)/3: the numbers of a participant's report."""
    scores = {"sst5": 0.524, "quora": 0.842, "sts": 0.826}
    assert metrics.average_score([TASKS[name] for name in scores], scores) == pytest.approx(0.7597, abs=5e-5)


@pytest.mark.parametrize(
    "task, logits, labels, why",
    [
        ("rte", [[1, 0], [0, 1], [0, 1], [1, 0]], [0, 1, 1, 0], ""),
        ("rte", [[1, 0]] * 4, [0, 1, 1, 0], "same prediction"),
        ("rte", [[0, 1], [1, 0], [1, 0], [0, 1]], [0, 1, 1, 1], "not above the majority"),
        ("rte", [[1, 0], [1, 0], [0, 1], [0, 1]], [0, 1, 1, 1], "not above the majority"),  # exactly at it: 3 of 4
        ("rte", [[np.nan, 1], [1, 0], [0, 1], [0, 1]], [0, 1, 1, 1], "not a finite number"),
        ("stsb", [[1.0], [2.0], [3.5]], [0, 2, 5], ""),
        ("stsb", [[1.0]] * 3, [0, 2, 5], "same prediction"),
        ("stsb", [[3.0], [2.0], [1.0]], [0, 2, 5], "not above the majority"),
        ("stsb", [[1.0], [2.0], [1.0]], [0, 1, 2], "not above the majority"),  # both correlations are exactly 0
    ],
)
def test_the_reason_why_a_run_failed(task, logits, labels, why):
    task, logits, labels = TASKS[task], np.array(logits, float), np.array(labels)
    predictions = metrics.predictions_from_logits(task, logits)
    score = metrics.score(task, metrics.compute_metrics(task, predictions, labels))
    baseline = metrics.score(task, metrics.majority_metrics(task, labels))
    reason = metrics.failure_reason(logits, predictions, score, baseline)
    assert why in reason if why else reason == ""


@pytest.mark.parametrize(
    "precision, spread, failed",
    [
        ("fp32", 2.0**-22, True),  # one unit in the last place of 2.5
        ("fp32", 1e-3, False),
        ("bf16", 2.0**-6, True),
        ("bf16", 2.0**-4, False),
        ("fp16", 2.0**-9, True),
        ("fp16", 2.0**-6, False),
    ],
)
def test_a_regression_whose_predictions_differ_by_rounding_alone_failed(precision, spread, failed):
    """However well these last bits correlate with the labels."""
    labels = np.array([0.0, 1.0, 5.0, 5.0, 0.0])
    predictions = (2.5 + spread * (labels > 2)).astype(np.float32)
    assert np.ptp(predictions) == pytest.approx(spread, rel=1e-2) and metrics.pearson(predictions, labels) > 0.9
    for sign in (1, -1):
        reason = metrics.failure_reason(sign * predictions[:, None], sign * predictions, 0.97, 0.0, precision)
        assert reason == ("every example gets the same prediction, within rounding" if failed else "")


@pytest.mark.parametrize("precision, share", metrics.ROUNDING.items())
def test_a_spread_of_exactly_what_rounding_can_do_is_still_rounding(precision, share):
    for spread, failed in ((share, True), (2 * share, False)):
        predictions = np.array([1 - spread, 1.0, 1 - spread], np.float32)  # powers of 2: no digit is lost
        reason = metrics.failure_reason(predictions[:, None], predictions, 0.97, 0.0, precision)
        assert reason == ("every example gets the same prediction, within rounding" if failed else "")


def test_class_indices_are_never_equal_within_rounding():
    predictions = np.array([198, 199, 198])
    assert metrics.failure_reason(np.eye(200)[predictions], predictions, 1.0, 0.6, "bf16") == ""


def test_one_logit_above_0_predicts_class_1():
    logits = np.array([[-0.1], [0.0], [2.0]])
    assert metrics.predictions_from_logits(TASKS["quora"], logits).tolist() == [0, 0, 1]
    assert metrics.predictions_from_logits(TASKS["sts"], logits).tolist() == [-0.1, 0.0, 2.0]
    assert metrics.predictions_from_logits(TASKS["rte"], np.array([[1.0, 2.0], [0.5, 0.1]])).tolist() == [1, 0]

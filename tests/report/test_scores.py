"""minbert/report/scores.py: against slow loops, and cases with known answers."""

import random

import numpy as np
import pytest

from minbert.report.scores import BINS, calibration, calibration_error, class_scores, confusion, largest_losses


@pytest.mark.parametrize("size", [1, 2, 3, 5, 12, 40])
def test_confusion_and_class_scores_are_those_of_a_slow_loop(size):
    rng = random.Random(size)
    pairs = [(rng.randrange(5), rng.randrange(5)) for _ in range(size)]
    labels, predictions = map(np.array, zip(*pairs))
    counts = [[sum(pair == (i, j) for pair in pairs) for j in range(5)] for i in range(5)]
    assert confusion(labels, predictions, 5).tolist() == counts
    for i, row in enumerate(class_scores(labels, predictions, "abcde")):
        right = sum(label == prediction == i for label, prediction in pairs)
        wrongly = sum(prediction == i != label for label, prediction in pairs)
        missed = sum(label == i != prediction for label, prediction in pairs)
        assert (row.label, row.number, row.predicted) == ("abcde"[i], right + missed, right + wrongly)
        assert row.precision == (right / (right + wrongly) if right + wrongly else None)
        assert row.recall == (right / (right + missed) if right + missed else None)
        whole = 2 * right + wrongly + missed
        assert row.f1 == pytest.approx(2 * right / whole if whole else 0.0)


def test_the_calibration_error_of_a_case_made_by_hand():
    """Confidences .6 (right), .7 (wrong), .95 (right), .85 and .9 (one right): 10 bins, the upper edge included."""
    confidences = np.array([0.6, 0.7, 0.95, 0.85, 0.9])
    labels = np.array([0, 1, 0, 0, 1])
    bins = calibration(np.stack([confidences, 1 - confidences], 1), labels)
    assert [bin.number for bin in bins] == [0, 0, 0, 0, 0, 1, 1, 0, 2, 1]
    assert (bins[5].low, bins[5].high, bins[5].confidence, bins[5].accuracy) == (0.5, 0.6, 0.6, 1.0)
    assert (bins[8].confidence, bins[8].accuracy) == (pytest.approx(0.875), 0.5)
    assert (bins[0].confidence, bins[0].accuracy) == (None, None)
    error = (abs(1 - 0.6) + abs(0 - 0.7) + 2 * abs(0.5 - 0.875) + abs(1 - 0.95)) / 5
    assert calibration_error(bins) == pytest.approx(error, rel=1e-12)


def test_who_is_as_often_right_as_sure_has_no_calibration_error():
    probabilities = np.array([[0.75, 0.25]] * 4 + [[0.5, 0.5]] * 2)
    assert calibration_error(calibration(probabilities, np.array([0, 0, 0, 1, 0, 1]))) == 0
    assert calibration_error(calibration(np.array([[1.0, 0.0]] * 3), np.array([1, 1, 1]))) == 1


@pytest.mark.parametrize("size", [1, 2, 17, 200])
@pytest.mark.parametrize("scale", [0.0, 1.0, 9.0])  # of the logits: equal classes, unsure, nearly sure
def test_each_example_is_in_one_bin_and_the_error_is_that_of_a_slow_loop(size, scale):
    rng = np.random.default_rng(size)
    logits, labels = scale * rng.normal(size=(size, 3)), rng.integers(0, 3, size)
    probabilities = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    bins, expected = calibration(probabilities, labels), 0.0
    for m in range(BINS):
        inside = [i for i, p in enumerate(probabilities) if m / BINS < min(max(p), 1.0) <= (m + 1) / BINS]
        assert bins[m].number == len(inside)
        sure = sum(max(probabilities[i]) for i in inside)
        right = sum(int(probabilities[i].argmax()) == labels[i] for i in inside)
        expected += abs(right - sure) / size
    assert calibration_error(bins) == pytest.approx(expected, abs=1e-12)


def test_the_largest_losses_come_first_and_equal_ones_in_the_files_order():
    losses = np.array([0.5, 3.0, 1.0, 3.0, 9.0, np.inf])
    assert largest_losses(losses, np.array([0, 1, 2, 3]), 3) == [1, 3, 2]
    assert largest_losses(losses, np.arange(6), 2) == [5, 4]
    assert largest_losses(losses, np.array([2]), 9) == [2]

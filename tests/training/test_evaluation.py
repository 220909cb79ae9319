"""From a model to logits, and from logits to scores: each example once, each split computed once."""

import numpy as np
import pytest
import torch
from support.factories import COURSE, CPU, KINDS, make_dataset, make_model

from minbert.data.task_file import choose_tasks
from minbert.training.evaluation import Evaluator, combine_tasks, predict_logits
from minbert.training.runtime import Runtime

MNLI = KINDS["three classes"]


def test_logits_are_in_the_order_of_the_file_for_every_size_of_batch():
    """For pairs that are encoded separately too."""
    for task in (*choose_tasks(COURSE), *choose_tasks(["quora", "sts"], "separate")):
        model, dataset = make_model(task).double().eval(), make_dataset(task, size=23)
        alone = np.concatenate([model(dataset.collate([row])).logits.detach().numpy() for row in range(23)])
        assert np.ptp(alone) > 0.1
        for size in (1, 5, 23, 64):
            assert predict_logits(model, dataset, size, CPU) == pytest.approx(alone, abs=1e-6)


def test_the_progress_counts_examples():
    dataset, told = make_dataset(MNLI, size=11), []
    evaluator = Evaluator(make_model(MNLI), {"mnli": {"dev": dataset}}, 4, CPU, show=lambda *of: told.append(of))
    evaluator.logits("mnli", "dev")
    assert [split for split, _, _ in told] == ["mnli dev"] * 3 and {total for _, _, total in told} == {11}
    assert sorted(done for _, done, _ in told) in ([0, 3, 7], [0, 4, 8])  # one batch has the three that are left


def test_the_score_of_mnli_is_the_mean_over_its_two_dev_sets():
    model, parts = make_model(MNLI), {"dev": make_dataset(MNLI, 20, 1), "dev-mismatched": make_dataset(MNLI, 11, 2)}
    scores = Evaluator(model, {"mnli": parts}, 8, CPU).scores("dev")
    accuracies = []
    for dataset in parts.values():
        logits = predict_logits(model, dataset, 8, CPU)
        accuracies.append(float((logits.argmax(-1) == dataset.labels.numpy()).mean()))
    assert accuracies[0] != accuracies[1]
    assert scores["metrics"] == {"accuracy": accuracies[0], "accuracy-mismatched": accuracies[1]}
    assert scores["score"] == pytest.approx(sum(accuracies) / 2)
    assert scores["majority"] == {"accuracy": 7 / 20, "accuracy-mismatched": 4 / 11}


def test_a_failure_names_the_file():
    parts = {"dev": make_dataset(MNLI, 20, 1), "dev-mismatched": make_dataset(MNLI, 11, 2)}
    evaluator = Evaluator(make_model(MNLI), {"mnli": parts}, 8, CPU)
    perfect = np.eye(3)[parts["dev"].labels.numpy().astype(int)]
    evaluator.cache = {("mnli", "dev"): perfect, ("mnli", "dev-mismatched"): np.tile([1.0, 0.0, 0.0], (11, 1))}
    scores = evaluator.scores("dev")
    assert scores["failed"] and scores["failure"] == "dev-mismatched: every example gets the same prediction"
    evaluator.cache["mnli", "dev-mismatched"] = np.eye(3)[parts["dev-mismatched"].labels.numpy().astype(int)]
    scores = evaluator.scores("dev")
    assert (scores["score"], scores["failed"], scores["failure"]) == (1.0, False, "")


def test_how_far_rounding_reaches_follows_from_the_precision_of_the_run():
    task = KINDS["regression"]
    dataset = make_dataset(task, 20)
    for precision, failed in (("fp32", False), ("bf16", True)):
        evaluator = Evaluator(make_model(task), {task.name: {"dev": dataset}}, 8, Runtime(CPU.device, precision))
        evaluator.cache = {(task.name, "dev"): 3 + 1e-3 * dataset.labels.numpy()[:, None]}
        assert evaluator.scores("dev")["failed"] == failed


@pytest.mark.parametrize("kind", KINDS)
def test_only_a_regression_reports_the_spread_of_its_predictions(kind):
    task = KINDS[kind]
    dev = {split: make_dataset(task, 20) for split in task.splits("dev")}
    evaluator = Evaluator(make_model(task), {task.name: dev}, 8, CPU)
    scores = evaluator.scores("dev")
    assert ("regression" in scores) == (not task.labels)
    if not task.labels:
        predictions = evaluator.logits(task.name, "dev")[:, 0]
        assert scores["regression"]["prediction_mean"] == pytest.approx(predictions.mean(), abs=1e-6)


def test_logits_are_computed_once_until_the_weights_change():
    model, dataset = make_model(MNLI), make_dataset(MNLI, 9)
    evaluator = Evaluator(model, {"mnli": {"dev": dataset}}, 4, CPU)
    before = evaluator.logits("mnli", "dev")
    with torch.no_grad():
        model.heads["mnli"].bias += 1
    assert evaluator.logits("mnli", "dev") is before
    evaluator.clear()
    assert evaluator.logits("mnli", "dev") == pytest.approx(before + 1, abs=1e-5)


def results(**failed) -> dict[str, dict]:
    """The results of the course's tasks, with the scores of a participant's report."""
    scores = {"sst5": 0.524, "quora": 0.842, "sts": 0.826}
    baselines = {"sst5": {"accuracy": 0.5}, "quora": {"accuracy": 0.5}, "sts": {"pearson": 0.0}}
    results = {}
    for name in COURSE:
        failure = {"failed": name in failed, "failure": failed.get(name, "")}
        results[name] = {"score": scores[name], "majority": baselines[name]} | failure
    return results


def test_several_tasks_have_an_average_and_each_task_its_own_results():
    scores = combine_tasks(tuple(choose_tasks(COURSE)), results())
    assert scores["score"] == pytest.approx(0.7597, abs=5e-5)  # (SST + paraphrase + (STS r + 1)/2)/3
    assert (scores["failed"], scores["failure"]) == (False, "") and scores["tasks"] == results()
    assert scores["metrics"] == {"sst5": 0.524, "quora": 0.842, "sts": 0.826}
    assert scores["majority"] == {"sst5": 0.5, "quora": 0.5, "sts": 0.0}


def test_the_tasks_that_failed_are_named():
    failed = {"quora": "dev: one answer for all", "sts": "dev: not finite"}
    scores = combine_tasks(tuple(choose_tasks(COURSE)), results(**failed))
    assert scores["failed"] and scores["failure"] == "quora: dev: one answer for all; sts: dev: not finite"

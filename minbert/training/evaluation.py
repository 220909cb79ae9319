"""From a model to logits, and from logits to the scores in metrics.json."""

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from minbert import metrics
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.task import Task
from minbert.training.runtime import Runtime


def show_nothing(*_: object) -> None:
    """No progress on the screen."""


@torch.no_grad()
def predict_logits(
    model: SentenceModel,
    dataset: Dataset,
    batch_size: int,
    runtime: Runtime,
    show: Callable[[int, int], object] = show_nothing,
) -> np.ndarray:
    """Logits [N,C] in the file's order, in eval mode. The ranks share the work, and each example counts once.

    show(done, total) is told how many of this rank's examples are done.
    """
    model.eval()
    logits = torch.zeros(len(dataset), dataset.task.outputs, device=runtime.device)
    batches = dataset.by_length(batch_size)[runtime.rank :: runtime.world_size]
    done, total = 0, sum(map(len, batches))
    for rows in batches:
        show(done, total)
        done += len(rows)
        batch = dataset.collate(rows).to(runtime.device)
        with runtime.autocast():
            logits[batch.index] = model(batch).logits.float()
        if not runtime.is_distributed:  # several processes stop together, in loop.py: save_or_stop_if_due
            runtime.signals.raise_if_received()
    # Each row was computed by one rank and is 0 on the others, so the sum is the row.
    return runtime.sum_over_ranks(logits).cpu().numpy()


class Evaluator:
    """Scores of a model on its tasks. The logits of a split are computed once, until `clear` is called."""

    def __init__(
        self,
        model: SentenceModel,
        data: dict[str, dict[str, Dataset]],  # by task and split
        batch_size: int,
        runtime: Runtime,
        average_tasks: bool = False,
        show: Callable[[str, int, int], object] = show_nothing,  # ("rte dev", examples done, examples)
    ):
        self.model, self.data, self.batch_size, self.runtime = model, data, batch_size, runtime
        self.average_tasks, self.show = average_tasks, show
        self.cache: dict[tuple[str, str], np.ndarray] = {}

    def logits(self, task: str, split: str) -> np.ndarray:
        """[N,C], in the file's order."""
        if (task, split) not in self.cache:
            dataset = self.data[task][split]
            show = partial(self.show, f"{task} {split}")
            self.cache[task, split] = predict_logits(self.model, dataset, self.batch_size, self.runtime, show)
        return self.cache[task, split]

    def clear(self) -> None:
        """Forget the logits, because the weights have changed."""
        self.cache.clear()

    def scores(self, split: str) -> dict:
        """The scores of dev or train: those of the only task, or those of all tasks and their average."""
        results = {task.name: self.task_scores(task, split) for task in self.model.tasks}
        if self.average_tasks:
            return combine_tasks(self.model.tasks, results)
        return results[self.model.tasks[0].name]

    def task_scores(self, task: Task, split: str) -> dict:
        """{score, metrics, majority, failed, failure} of one task, and for a regression {regression}.

        A split can have several files. The metrics of MNLI's second one are named accuracy-mismatched, and the score is
        the mean over the files.
        """
        values: dict[str, float] = {}
        majority: dict[str, float] = {}
        regression: dict[str, float] = {}
        failures = []
        for file in task.splits(split):
            logits, labels = self.logits(task.name, file), self.data[task.name][file].labels.numpy()
            predictions = metrics.predictions_from_logits(task, logits)
            of_file = metrics.compute_metrics(task, predictions, labels)
            baseline = metrics.majority_metrics(task, labels)
            scores = metrics.score(task, of_file), metrics.score(task, baseline)
            if reason := metrics.failure_reason(logits, predictions, *scores, self.runtime.precision):
                failures.append(f"{file}: {reason}")
            suffix = file.removeprefix(split)  # "" or "-mismatched"
            values |= {name + suffix: value for name, value in of_file.items()}
            majority |= {name + suffix: value for name, value in baseline.items()}
            if not task.labels:
                described = metrics.describe_regression(predictions, labels)
                regression |= {name + suffix: value for name, value in described.items()}
        scores = {
            "score": metrics.score(task, values),
            "metrics": values,
            "majority": majority,
            "failed": bool(failures),
            "failure": "; ".join(failures),
        }
        return scores | {"regression": regression} if regression else scores


def combine_tasks(tasks: tuple[Task, ...], results: dict[str, dict]) -> dict:
    """The same fields for several tasks together, with each task's own results in `tasks`."""
    scores = {task.name: results[task.name]["score"] for task in tasks}
    failures = [f"{name}: {result['failure']}" for name, result in results.items() if result["failed"]]
    return {
        "score": metrics.average_score(tasks, scores),
        "metrics": scores,
        "majority": {task.name: metrics.score(task, results[task.name]["majority"]) for task in tasks},
        "failed": bool(failures),
        "failure": "; ".join(failures),
        "tasks": results,
    }

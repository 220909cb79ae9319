"""Answers: what a finished run says about the examples of a dev set, from its model or from its prediction files."""

from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from minbert import metrics
from minbert.data.dataset import Dataset
from minbert.data.predictions import LEADERBOARD, read_predictions, read_probabilities
from minbert.data.readers import Example, Examples
from minbert.errors import InputError
from minbert.report.curves import fields
from minbert.report.reported_run import ReportedRun
from minbert.task import Task
from minbert.training.evaluation import predict_logits
from minbert.training.fingerprint import data_key, hash_examples
from minbert.training.inputs import read_rows, size_of
from minbert.training.runtime import Runtime
from minbert.training.text_model import TextModel, load_run

BATCH_SIZE = 32  # examples in one pass; padding changes no answer
SMALLEST = np.finfo(np.float64).tiny  # of a probability in a file, whose logarithm must be finite


@dataclass(frozen=True)
class Answers:
    """The answers for one dev file, in the file's order."""

    task: Task
    split: str  # dev, or dev-mismatched
    examples: list[Example]
    labels: np.ndarray  # [N], class indices, or real values of a regression
    predictions: np.ndarray  # [N]
    probabilities: np.ndarray | None  # [N,C]; None for a regression, and where only predictions are known
    losses: np.ndarray | None  # [N], cross entropy or squared error; None without probabilities

    @property
    def scores(self) -> dict[str, float]:
        """The task's metrics by name."""
        return metrics.compute_metrics(self.task, self.predictions, self.labels)


def read_answers(run: ReportedRun, device: torch.device) -> tuple[list[Answers], list[str]]:
    """The answers of a finished run for each task and dev file, and a line for each thing that cannot be shown.

    They are computed from the model that the run kept, in float32, or read from its prediction files.
    """
    if run.metrics["score"] is None:
        return [], ["no predictions: a loss was not finite"]
    model, found, notes = None, [], []
    if (run.folder / "model").exists():
        model = load_run(run.folder).to(device)
    for task in run.tasks:
        for split in task.splits("dev"):
            try:
                examples = read_rows(task, run.data, split, size_of(split, run.settings))
                if not same_examples(run, task, split, examples):
                    raise InputError("the data have changed since the run")
                answers = answers_of_model(model, task, split, examples, device) if model else None
                found.append(answers or answers_of_files(run, task, split, examples))
            except InputError as error:
                notes.append(f"no predictions of {task.name} {split}: {error}")
    if model and (precision := run.saved.get("precision", "fp32")) != "fp32":
        notes.append(f"the predictions are computed in fp32, and the scores of the run in {precision}: they can differ")
    if any(answers.task.labels and answers.probabilities is None for answers in found):
        notes.append("no calibration and no losses: the run kept no model (--save model keeps it)")
    for answers in found if model is None else []:
        if may_be_limited(answers):
            low, high = LEADERBOARD.limits
            notes.append(
                f"the file of {answers.task.name} holds predictions limited to {low:g} to {high:g}, as the leaderboard "
                "wants them: its correlations can differ from those of the run"
            )
    return found, notes


def may_be_limited(answers: Answers) -> bool:
    """Whether the leaderboard's limits may have changed a regression's predictions when its file was written."""
    of_leaderboard = answers.task.name in LEADERBOARD.task_names and not answers.task.labels
    return of_leaderboard and bool(np.isin(answers.predictions, LEADERBOARD.limits).any())


def same_examples(run: ReportedRun, task: Task, split: str, examples: Examples) -> bool:
    """Whether the data have the fingerprint in the run's settings.json. True if it has none."""
    before = fields(run.saved.get("fingerprint")).get(data_key(split, task.name))
    return before is None or before == hash_examples(examples)


def answers_of_model(model: TextModel, task: Task, split: str, examples: Examples, device: torch.device) -> Answers:
    """Compute the answers. Raises InputError if one is not a finite number."""
    dataset = Dataset(task, examples, model.tokenizer, model.max_length)
    bar = tqdm(total=len(dataset), desc=f"{task.name} {split}", leave=False, disable=None, dynamic_ncols=True)
    with bar:  # nothing is shown where stderr is not a terminal
        logits = predict_logits(
            model.model, dataset, BATCH_SIZE, Runtime(device), lambda done, total: bar.update(done - bar.n)
        )
    if not np.isfinite(logits).all():
        raise InputError("an output of the model is not a finite number")
    predictions = metrics.predictions_from_logits(task, logits)
    probabilities = metrics.probabilities(task, logits) if task.labels else None
    labels = dataset.labels
    return Answers(task, split, examples.rows, labels.numpy(), predictions, probabilities, losses(task, logits, labels))


def losses(task: Task, logits: np.ndarray, labels: torch.Tensor) -> np.ndarray:
    """The task's loss of each example [N], in float64. Logits are [N,C]."""
    rows = torch.from_numpy(logits).double().split(1)
    return np.array([task.loss(row, label).item() for row, label in zip(rows, labels.split(1), strict=True)])


def answers_of_files(run: ReportedRun, task: Task, split: str, examples: Examples) -> Answers:
    """Read the answers. Raises InputError if the run wrote none, or none for these examples."""
    texts = read_predictions(run.folder, task.name, split)
    if texts is None:
        raise InputError("the run kept neither a model nor predictions (--save model keeps the model)")
    if len(texts) != len(examples.rows):
        raise InputError(f"{len(texts)} predictions do not fit {len(examples.rows)} examples")
    labels = np.array([example.label for example in examples.rows])
    try:
        values = [task.labels.index(text) if task.labels else float(text) for text in texts]
    except ValueError:
        raise InputError("the prediction file holds other answers than those of the task") from None
    predictions, probabilities = np.array(values), read_probabilities(run.folder, task, split)
    if not np.isfinite(predictions).all() or not np.isfinite(0.0 if probabilities is None else probabilities).all():
        raise InputError("the prediction file holds a number that is not finite")
    errors = None if task.labels else (predictions - labels) ** 2
    if probabilities is not None:
        errors = -np.log(np.maximum(probabilities[np.arange(len(labels)), labels], SMALLEST))
    return Answers(task, split, examples.rows, labels, predictions, probabilities, errors)

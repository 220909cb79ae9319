"""FinishedRun: the run folder of a finished run, as the figures need it. Its settings, data, log, and models."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch

from minbert import weights
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.errors import InputError
from minbert.hub import find_model
from minbert.report.metrics_file import read_metrics
from minbert.report.reported_run import check_distinct
from minbert.task import Batch, Task
from minbert.tokenizer import Tokenizer
from minbert.training.inputs import Inputs, read_rows, size_of
from minbert.training.settings import CommonSettings
from minbert.training.text_model import load_run, read_run_settings, tasks_of_run
from regularizers import build
from study.collect import make_row
from study.results import Row

# Settings in which the runs of one recipe may differ: the seeds, and what does not change the training. The task is
# compared apart from them, because a task file is the run's own copy of it.
FREE = (
    "task", "tasks", "seed", "init_seed", "data_seed", "device", "out", "resume", "save", "evaluate", "record",
    "record_every", "predict", "checkpoint_steps", "checkpoint_minutes",
)  # fmt: skip


class FinishedRun:
    """A run of train.py or multitask.py that is complete. Nothing in its folder is changed.

    All models are in eval mode, in float32 and on the CPU: move them with `.to(device)`.
    """

    def __init__(self, folder: Path | str):
        """Raises InputError if there is no finished run."""
        self.folder = Path(folder)
        self.metrics = read_metrics(self.folder)
        self.settings: CommonSettings = read_run_settings(self.folder)
        self.inputs = Inputs()

    @property
    def name(self) -> str:
        """The name of the folder, which a study makes from task, method and seed: rte-smart-seed0."""
        return self.folder.resolve().name

    @property
    def recipe(self) -> str:
        """The name without the seed, which all runs of one cell of a study share: rte-smart."""
        return re.sub(r"-(seed\d+|init\d+-data\d+)$", "", self.name)

    @property
    def failed(self) -> bool:
        """Whether the score is not above that of the majority class, or a loss was not finite."""
        return bool(self.metrics["failed"])

    @property
    def score(self) -> float | None:
        """The dev score of the weights that were kept, 0 to 1; None if a loss was not finite."""
        return self.metrics["score"]

    @property
    def kept_model(self) -> bool:
        """Whether the run kept its model (not with --save none)."""
        return (self.folder / "model").exists()

    @cached_property
    def tasks(self) -> list[Task]:
        return tasks_of_run(self.folder, self.settings)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return self.inputs.tokenizer(self.settings)

    def pretrained(self) -> SentenceModel:
        """The model as it was before the first step: pretrained encoder, fresh heads, inserted modules. A new copy."""
        with no_warnings():
            model = self.inputs.model(self.tasks, self.settings)
        build(self.settings.option, self.settings.method_settings).attach_with_seed(model, self.settings.init_seed)
        return model.eval()

    def trained(self) -> SentenceModel:
        """The model that the run kept. A new copy. Raises InputError if the run has none, or no finite weights."""
        self.check_kept()
        model = load_run(self.folder).model
        if not all(p.isfinite().all() for p in model.parameters()):
            raise InputError(f"{self.folder}: the last step left weights that are not finite")
        return model

    def check_kept(self) -> None:
        """Raise InputError if the run kept no model (--save none)."""
        if not self.kept_model:
            raise InputError(f"{self.folder} kept no model: the run needs --save model, and a study save = 'model'")

    def dataset(self, split: str = "dev", task: Task | None = None) -> Dataset:
        """The tokenized examples of a split, with the run's own --train-size and --dev-size."""
        task, s = task or self.tasks[0], self.settings
        return Dataset(task, read_rows(task, s.data, split, size_of(split, s)), self.tokenizer, s.max_length)


def check_runs(runs: Sequence[FinishedRun]) -> None:
    """Raise InputError for a run that appears twice or has several tasks."""
    check_distinct([run.folder for run in runs])
    for run in runs:
        if len(run.tasks) > 1:
            raise InputError(f"{run.folder} has several tasks: this figure needs runs of one task")


def check_same_task(runs: Sequence[FinishedRun]) -> None:
    """Raise InputError for a run of another task than the first run, or with other --pairs."""
    for run in runs:
        if run.settings.task_names != runs[0].settings.task_names:
            raise InputError(f"{run.folder} is of another task than {runs[0].folder}")
        if run.settings.pairs != runs[0].settings.pairs:
            raise InputError(f"{run.folder} has other --pairs than {runs[0].folder}")
        if run.tasks != runs[0].tasks:  # of the user's own
            raise InputError(f"{run.folder} has another task file than {runs[0].folder}, or one in another folder")


def check_same_data(runs: Sequence[FinishedRun], split: str) -> None:
    """Raise InputError unless all runs read the same examples of a split, train or dev, in the same way."""

    def source(run: FinishedRun) -> tuple:
        return run.tasks[0], run.settings.data, run.settings.max_length, size_of(split, run.settings)

    for run in runs:
        if source(run) != source(runs[0]):
            raise InputError(f"{run.folder} has another {split} set than {runs[0].folder}")


def check_models(runs: Sequence[FinishedRun]) -> None:
    """Raise InputError for a run without finite weights, or of another pretrained model than the first run."""
    first = runs[0]
    for run in runs:
        if run.score is None:
            raise InputError(f"{run.folder}: a loss was not finite, so there is no model to look into")
        same_name = run.settings.model == first.settings.model
        if not same_name and find_model(run.settings.model) != find_model(first.settings.model):
            raise InputError(f"{run.folder} has another model than {first.folder}")


def check_kept(runs: Sequence[FinishedRun]) -> None:
    """Raise InputError for a run that kept no model, before the others are computed, which can take long."""
    for run in runs:
        run.check_kept()


def group_by_recipe(runs: Sequence[FinishedRun], short_names: bool = False) -> dict[str, list[FinishedRun]]:
    """The runs that differ in their seeds only, by the name of their recipe.

    If two recipes have the same name, each name is the folder of the first run instead. With `short_names` the name is
    that of the task, if no two recipes have the same task.
    """
    groups: dict[str, list[FinishedRun]] = {}
    for run in runs:
        groups.setdefault(settings_without_seeds(run), []).append(run)
    firsts = [group[0] for group in groups.values()]
    names = [run.tasks[0].name for run in firsts]
    if not short_names or len(set(names)) < len(names):
        names = [run.recipe for run in firsts]
    if len(set(names)) < len(names):
        names = [str(run.folder) for run in firsts]
    return dict(zip(names, groups.values(), strict=True))


def settings_without_seeds(run: FinishedRun) -> str:
    """A text that is equal for runs that differ in their seeds, and in nothing else that changes the training."""
    usual = type(run.settings)()
    return repr(
        (run.tasks, replace(run.settings, **{name: getattr(usual, name) for name in FREE if hasattr(usual, name)}))
    )


def study_row(run: FinishedRun) -> Row:
    """The run as the pictures of a study need it."""
    return make_row(run.metrics, run.folder.resolve(), run.settings, run.settings.title, run.recipe)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Without the notices about the weights (no pooler), which a figure would repeat for each model it loads."""
    before, weights.logger.disabled = weights.logger.disabled, True
    try:
        yield
    finally:
        weights.logger.disabled = before


def batches(dataset: Dataset, batch_size: int, device: torch.device, examples: int | None = None) -> Iterator[Batch]:
    """All examples of a dataset, or the first `examples` of the file, in batches of similar length, on the device."""
    for rows in dataset.by_length(batch_size):
        chosen = [row for row in rows if examples is None or row < examples]
        if chosen:
            yield dataset.collate(chosen).to(device)

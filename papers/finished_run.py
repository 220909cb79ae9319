"""FinishedRun: the run folder of a finished run, as the figures need it. Its settings, data, log, and models."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch

from minbert import weights
from minbert.classifier import SentenceModel
from minbert.data.dataset import Dataset
from minbert.errors import InputError
from minbert.files import read_json_object
from minbert.task import Batch, Task
from minbert.tokenizer import Tokenizer
from minbert.training.arguments import read_settings
from minbert.training.inputs import Inputs, read_rows
from minbert.training.settings import CommonSettings, MultitaskSettings, Settings
from regularizers import build
from study.results import read_log


class FinishedRun:
    """A run of train.py or multitask.py that is complete. Nothing in its folder is changed.

    All models are in eval mode, in float32 and on the CPU: move them with `.to(device)`.
    """

    def __init__(self, folder: Path | str):
        """Raises InputError if there is no finished run."""
        self.folder = Path(folder)
        self.metrics = read_json_object(self.folder / "metrics.json")
        saved = read_json_object(self.folder / "settings.json")
        cls = MultitaskSettings if "tasks" in saved else Settings
        self.settings: CommonSettings = read_settings(cls, self.folder)
        self.inputs = Inputs()

    @property
    def name(self) -> str:
        """The name of the folder, which a study makes from task, method and seed: rte-smart-seed0."""
        return self.folder.resolve().name

    @property
    def failed(self) -> bool:
        """Whether the score is not above that of the majority class, or a loss was not finite."""
        return bool(self.metrics["failed"])

    @property
    def score(self) -> float | None:
        """The dev score of the weights that were kept, 0 to 1; None if a loss was not finite."""
        return self.metrics["score"]

    @cached_property
    def tasks(self) -> list[Task]:
        return self.settings.chosen_tasks()

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return self.inputs.tokenizer(self.settings)

    def log(self) -> list[dict]:
        """The rows of log.jsonl: one for every ten steps."""
        return read_log(self.folder)

    def pretrained(self) -> SentenceModel:
        """The model as it was before the first step: pretrained encoder, fresh heads, inserted modules. A new copy."""
        with no_warnings():
            model = self.inputs.model(self.tasks, self.settings)
        build(self.settings.option, self.settings.method_settings).attach_with_seed(model, self.settings.init_seed)
        return model.eval()

    def trained(self) -> SentenceModel:
        """The model that the run kept. A new copy. Raises InputError if the run kept none (--save none)."""
        folder = self.folder / "model"
        if not folder.exists():
            raise InputError(f"{self.folder} kept no model: the run needs --save model, and a study save = 'model'")
        model = self.pretrained()
        weights.load_model(model, folder)
        return model

    def dataset(self, split: str = "dev", task: Task | None = None) -> Dataset:
        """The tokenized examples of a split: dev, test, or train with the run's own --train-size."""
        task, s = task or self.tasks[0], self.settings
        size = s.train_size if split == "train" else None
        return Dataset(task, read_rows(task, s.data, split, size), self.tokenizer, s.max_length)


@contextmanager
def no_warnings() -> Iterator[None]:
    """Without what train.py said when it read the same weights (no pooler): a figure would say it for every model."""
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

"""Inputs: what a run starts from. Its examples, its tokenized data, and the pretrained encoder with fresh heads."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.data.dataset import Dataset
from minbert.data.readers import Examples, read_examples, subset
from minbert.errors import InputError
from minbert.hub import find_model
from minbert.task import Task
from minbert.tokenizer import Tokenizer, load_tokenizer
from minbert.training.settings import CommonSettings

COMPILED_ROUND_TO = 32  # With --compile lengths are multiples of it: few shapes, which suit the GPU's matrix units.


class Inputs:
    """Reads files. It keeps examples, tokenizers and tokenized data for the next run of the process (study/).

    The encoder is built again for each run: the random numbers of the heads follow the encoder's. The file with the
    weights is mapped, so the system keeps it in memory between the runs.
    """

    def __init__(self):
        self.loaded: dict[tuple, Any] = {}

    def cached(self, load: Callable, *arguments) -> Any:
        """load(*arguments), or what it returned before for the same arguments."""
        key = load, *arguments
        if key not in self.loaded:
            self.loaded[key] = load(*arguments)
        return self.loaded[key]

    def examples(self, task: Task, settings: CommonSettings) -> dict[str, Examples]:
        """By split: everything that the run trains on, scores or predicts. Raises InputError as read_examples does."""
        splits = ("train", *splits_to_predict(task, settings))
        return {split: self.cached(read_rows, task, settings.data, split, size_of(split, settings)) for split in splits}

    def datasets(self, task: Task, settings: CommonSettings) -> dict[str, Dataset]:
        """By split: the same, tokenized."""
        round_to = COMPILED_ROUND_TO if settings.compile else 1
        return {
            split: self.cached(Dataset, task, rows, self.tokenizer(settings), settings.max_length, round_to)
            for split, rows in self.examples(task, settings).items()
        }

    def tokenizer(self, settings: CommonSettings) -> Tokenizer:
        """The tokenizer of the run's model. Raises InputError."""
        return self.cached(load_tokenizer, self.model_folder(settings))

    def model_folder(self, settings: CommonSettings) -> Path:
        """The folder of the run's model. A model hub is asked once, so that all files are of one revision."""
        return self.cached(find_model, settings.model)

    def model(self, tasks: Sequence[Task], settings: CommonSettings) -> SentenceModel:
        """The pretrained encoder with fresh heads. Raises InputError."""
        self.check_model(tasks, settings)
        torch.manual_seed(settings.init_seed)  # for the heads, and a pooler that the checkpoint may not have
        bert = BertModel.from_pretrained(self.model_folder(settings), **settings.config_changes())
        return SentenceModel(bert, tasks)

    def check_model(self, tasks: Sequence[Task], settings: CommonSettings) -> None:
        """Raise InputError if the model cannot read these inputs: too long, or other ids than its tokenizer's."""
        config = self.cached(BertConfig.from_json, self.model_folder(settings) / "config.json")
        largest_id = len(self.tokenizer(settings)) - 1
        config.check_input(largest_id, settings.max_length, max(task.segments for task in tasks))


def splits_to_predict(task: Task, settings: CommonSettings) -> list[str]:
    """dev, and with --predict test the test set. MNLI has two files of each.

    Of several tasks, one may lack its test file: it is left out. Raises InputError if the only task has none.
    """
    if settings.predict == "dev":
        return list(task.splits("dev"))
    tests = task.splits("test")
    if settings.multitask:
        tests = tuple(split for split in tests if any(path.exists() for path in task.paths(settings.data, split)))
    elif not tests:
        raise InputError(f'--predict test: {task.name} has no test file; add test = "FILE" to its task file')
    return [*task.splits("dev"), *tests]


def without_test_file(tasks: Sequence[Task], settings: CommonSettings) -> list[str]:
    """The names of tasks whose test set cannot be predicted, though --predict test asks for it.

    Raises InputError if there is no other task.
    """
    if settings.predict == "dev":
        return []
    names = [task.name for task in tasks if splits_to_predict(task, settings) == list(task.splits("dev"))]
    if len(names) == len(tasks):
        raise InputError(f"--predict test: {settings.data} has no test file of {', '.join(names)}")
    return names


def size_of(split: str, settings: CommonSettings) -> int | None:
    """How many examples of a split the run reads; None for all."""
    if split == "train":
        return settings.train_size
    return settings.dev_size if split.startswith("dev") else None


def read_rows(task: Task, data: str, split: str, size: int | None) -> Examples:
    """The examples of a split, or `size` of them."""
    return subset(read_examples(task, data, split), size)

"""TextModel: a trained model with its tokenizer. Text in, answers out.

model = minbert.load_run("runs/x")
for answer in model.predict([("A man sleeps.", "Somebody is asleep."), ("A man sleeps.", "He runs.")]):
    print(answer.prediction, answer.probabilities)
"""

import importlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from minbert import weights
from minbert.bert import BertModel
from minbert.classifier import SentenceModel
from minbert.config import BertConfig
from minbert.data.dataset import Dataset
from minbert.data.readers import Example, Examples
from minbert.errors import InputError
from minbert.files import read_json_object
from minbert.metrics import Answer, answers_from_logits
from minbert.task import Task
from minbert.tokenizer import Tokenizer, load_tokenizer
from minbert.training.arguments import read_settings
from minbert.training.evaluation import predict_logits
from minbert.training.runtime import Runtime
from minbert.training.settings import CommonSettings, MultitaskSettings, Settings

Text = str | tuple[str, str]  # a sentence, or a pair of sentences


class TextModel:
    """Answers for one or several tasks. The model is in eval mode, in float32."""

    def __init__(self, model: SentenceModel, tokenizer: Tokenizer, max_length: int):
        """Texts are cut to `max_length` tokens. Raises InputError if model and tokenizer do not fit together."""
        segments = max(task.segments for task in model.tasks)
        model.bert.config.check_input(len(tokenizer) - 1, max_length, segments)
        self.model, self.tokenizer, self.max_length = model.eval(), tokenizer, max_length

    def to(self, device: str | torch.device) -> "TextModel":
        """Move the model to a device."""
        self.model.to(device)
        return self

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks by name."""
        return {task.name: task for task in self.model.tasks}

    def predict(self, texts: Sequence[Text], task: str | None = None, batch_size: int = 32) -> list[Answer]:
        """One answer for each text. A model of several tasks needs the name of one.

        Raises InputError for a text that is not in a list, for an unknown task, and for a pair where the task has
        single sentences or the reverse.
        """
        if isinstance(texts, str):
            raise InputError(f"predict takes a list of texts: predict([{texts[:40]!r}])")
        chosen = self.choose_task(task)
        rows = [Example(str(i), *split_text(text), label=None) for i, text in enumerate(texts)]
        if not rows:
            return []
        chosen = fit_to_texts(chosen, rows)
        dataset = Dataset(chosen, Examples(Path(), rows, []), self.tokenizer, self.max_length)
        device = self.model.bert.pooler.weight.device
        return answers_from_logits(chosen, predict_logits(self.model, dataset, batch_size, Runtime(device)))

    def choose_task(self, name: str | None) -> Task:
        """The task with this name; without a name the only one. Raises InputError."""
        if name is None and len(self.tasks) == 1:
            return self.model.tasks[0]
        if name not in self.tasks:
            problem = "the model has several tasks: choose one" if name is None else f"the model has no task {name!r}"
            raise InputError(f"{problem}: {', '.join(self.tasks)}")
        return self.tasks[name]


def load_run(folder: str | Path) -> TextModel:
    """Load the model that a run kept, or a sequence classifier that transformers saved. On the CPU.

    Raises InputError if the folder holds neither.
    """
    folder = Path(folder)
    if (folder / "settings.json").exists():
        return load_run_folder(folder)
    if (folder / "config.json").exists():
        model, tokenizer = SentenceModel.from_pretrained(folder), load_tokenizer(folder)
        return TextModel(model, tokenizer, model.bert.config.positions)
    raise InputError(f"{folder} is neither a run folder (no settings.json) nor a saved model (no config.json)")


def load_run_folder(folder: Path) -> TextModel:
    """Load the model of a run of train.py or multitask.py. Raises InputError."""
    saved = folder / "model"
    if not saved.exists():
        complete = (folder / "metrics.json").exists()
        reason = "the run was made with --save none" if complete else "the run is not complete"
        raise InputError(f"{folder} has no model/: {reason}")
    settings, config = read_run_settings(folder), BertConfig.from_json(saved / "config.json")
    weights.check_shapes(config, weights.read_tensors(saved), saved)
    model = SentenceModel(BertModel(config), settings.chosen_tasks)
    insert_modules(model, settings)
    weights.load_model(model, saved)
    return TextModel(model, load_tokenizer(saved), settings.max_length)


def read_run_settings(folder: Path) -> CommonSettings:
    """The settings of a run of train.py or multitask.py. Raises InputError.

    Task files are the run's own copies: the user may have changed or removed the originals since.
    """
    saved = read_json_object(folder / "settings.json")
    copies = read_task_copies(folder, saved)

    def find(name: Any) -> Any:  # read_settings refuses a value that is not a text
        return copies.get(name, name) if isinstance(name, str) else name

    if "tasks" in saved:
        names = saved["tasks"]
        return read_settings(
            MultitaskSettings, folder, tasks=list(map(find, names)) if isinstance(names, list) else names
        )
    return read_settings(Settings, folder, task=find(saved.get("task")))


def read_task_copies(folder: Path, saved: dict) -> dict[str, str]:
    """The path of each task file of the user -> that of its copy in the run folder. Raises InputError."""
    files = saved.get("task_files", {})
    if not isinstance(files, dict) or not all(isinstance(name, str) for name in files.values()):
        raise InputError(f"{folder / 'settings.json'} does not hold the settings of a run: task_files is {files!r}")
    return {path: str(folder / name) for path, name in files.items()}


def tasks_of_run(folder: Path, settings: CommonSettings, data: Path | None = None) -> list[Task]:
    """The tasks of a run. The files of a user's own task lie beside the original task file, or in `data`."""
    copies = read_task_copies(folder, read_json_object(folder / "settings.json"))
    folders = {copy: str(Path(original).parent) for original, copy in copies.items()}

    def locate(name: str, task: Task) -> Task:
        return replace(task, folder="" if data else folders.get(name, task.folder)) if task.own else task

    return list(map(locate, settings.names, settings.chosen_tasks))


def insert_modules(model: SentenceModel, settings: CommonSettings) -> None:
    """Insert what the run's methods inserted: adapters, LoRA, R4F's head.

    minbert knows no method by name, so they come from the package `regularizers`, which lies beside it.
    """
    regularizers = importlib.import_module("regularizers")
    parts = regularizers.build(settings.option, settings.method_settings).parts.items()
    regularizers.Sum({name: part for name, part in parts if part.inserts}).attach(model)


def split_text(text: Text) -> tuple[str, str | None]:
    """(sentence, its pair or None)"""
    return (text, None) if isinstance(text, str) else (text[0], text[1])


def fit_to_texts(task: Task, rows: Sequence[Example]) -> Task:
    """The task, if its texts are of its kind. A model of transformers does not say which, so it takes both kinds.

    Raises InputError for a pair where the task has single sentences, or the reverse.
    """
    pairs = [row.pair is not None for row in rows]
    if task.name == "published" and len(set(pairs)) == 1:
        return replace(task, text=("text", "pair") if pairs[0] else ("text",))
    expected = len(task.text) == 2
    for number, is_pair in enumerate(pairs, start=1):
        if is_pair != expected:
            found = "a pair of sentences" if is_pair else "a single sentence"
            raise InputError(f"text {number} is {found}, and {task.name} has {'pairs' if expected else 'single ones'}")
    return task

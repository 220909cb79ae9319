"""A user's own task: a TOML file that says where the data are, what the columns mean, and how the task is scored.

docs/your-own-data.md has the format.
"""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from minbert import losses, metrics
from minbert.data.tasks import TASKS
from minbert.errors import InputError, did_you_mean
from minbert.files import read_toml
from minbert.task import Task

KEYS = ("name", "train", "dev", "test", "text", "label", "labels", "metrics")
REQUIRED = ("name", "train", "dev", "text", "label", "metrics")
OF_REGRESSION = ("pearson", "spearman")
OF_TWO_CLASSES = ("f1", "mcc")
SUFFIX = ".toml"
# Names inside a saved model, of the parameters without weight decay, and of a model that has no task.
RESERVED = ("base", "bias", "dense", "out_proj", "published")


def is_task_file(name: str) -> bool:
    """Whether a name for --task is a file and not one of the table's tasks."""
    return name.endswith(SUFFIX)


def choose_tasks(names: Iterable[str], pairs: str = "together") -> list[Task]:
    """The tasks with these names; a name that ends in .toml is a user's task file.

    `pairs` is one of PAIRS: how their pairs of sentences are encoded. Raises InputError.
    """
    tasks = [load_task_file(name) if is_task_file(name) else find_task(name) for name in names]
    return [replace(task, separate=pairs == "separate" and len(task.text) == 2) for task in tasks]


def find_task(name: str) -> Task:
    """The task of the table with this name. Raises InputError with the closest name."""
    if name in TASKS:
        return TASKS[name]
    hint = did_you_mean(name, TASKS) or "."
    raise InputError(
        f"{name!r} is not a task{hint} The tasks are {', '.join(TASKS)}; a task of your own is a file NAME{SUFFIX}"
    )


def load_task_file(path: Path | str) -> Task:
    """Read a task file. The paths in it are relative to it.

    Raises InputError that names the file and the key: not TOML, an unknown, missing or impossible value.
    """
    path = Path(path)
    values = read_toml(path)
    try:
        check_keys(values)
        labels = check_labels(values.get("labels"))
        chosen = check_metrics(values["metrics"], labels)
        text = check_words(values["text"], "text", most=2)
        name = check_name(values["name"])
        columns = [*text, check_word(values["label"], "label")]
        if len(set(columns)) < len(columns):
            raise InputError(f"the columns of text and label must differ, not {', '.join(columns)}")
        files = {split: check_word(values[split], split) for split in ("train", "dev", "test") if split in values}
        if len(set(files.values())) < len(files):
            raise InputError(f"{' and '.join(files)} must be different files")
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    functions = {} if labels else {"loss": losses.mean_squared_error, "divergence": losses.squared_error}
    return Task(
        name=name,
        folder=str(path.parent.absolute()),
        text=text,
        label=columns[-1],
        labels=labels,
        metrics=chosen,
        score=chosen[:1],
        files=tuple(files.items()),
        own=True,
        **functions,
    )


def check_keys(values: dict[str, Any]) -> None:
    """Raise InputError for a key that is unknown or missing."""
    for key in values:
        if key not in KEYS:
            raise InputError(f"the key {key!r} is unknown; the keys are {', '.join(KEYS)}{did_you_mean(key, KEYS)}")
    missing = [key for key in REQUIRED if key not in values]
    if missing:
        raise InputError(f"the key {missing[0]!r} is missing")


def check_word(value: Any, key: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{key} must be a text in quotes, not {value!r}")
    return value


def check_words(value: Any, key: str, most: int) -> tuple[str, ...]:
    """A list of different texts, as TOML has it, or one text alone."""
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not 1 <= len(words) <= most:
        raise InputError(f"{key} must be a list of one to {most} texts in quotes, not {value!r}")
    words = [check_word(word, key) for word in words]
    if len(set(words)) < len(words):
        raise InputError(f"{key} names {next(word for word in words if words.count(word) > 1)!r} twice")
    return tuple(words)


def check_name(value: Any) -> str:
    """The name goes into names of files, and into a command line, where + joins tasks."""
    name = check_word(value, "name")
    if not name.isascii() or not name.replace("-", "").replace("_", "").isalnum():
        raise InputError(f"name must have only letters, digits, - and _, not {name!r}")
    if name in TASKS:
        raise InputError(f"name {name!r} is a task of the table: choose another")
    if name in RESERVED or hasattr(nn.ModuleDict, name) or hasattr(nn.ModuleDict(), name):
        raise InputError(f"name {name!r} has another meaning inside a model: choose another")
    return name


def check_labels(value: Any) -> tuple[str, ...]:
    """The labels as the files write them, so a number is its digits. () for a regression."""
    if value is None:
        return ()
    if isinstance(value, list) and all(type(label) is int for label in value):
        value = [str(label) for label in value]
    labels = check_words(value, "labels", most=1000) if isinstance(value, list) else ()
    if len(labels) < 2:
        raise InputError(f"labels must be a list of two labels or more, not {value!r}; a regression has no labels")
    return labels


def check_metrics(value: Any, labels: tuple[str, ...]) -> tuple[str, ...]:
    """The names of metrics that suit the labels."""
    chosen = check_words(value, "metrics", most=len(metrics.METRICS))
    suited = [name for name in metrics.METRICS if (name in OF_REGRESSION) != bool(labels)]
    if len(labels) > 2:
        suited = [name for name in suited if name not in OF_TWO_CLASSES]
    for name in chosen:
        if name not in suited:
            kind = f"{len(labels)} labels" if labels else "a regression"
            raise InputError(f"metrics: {name!r} is not a metric for {kind}; there are {', '.join(suited)}")
    return chosen

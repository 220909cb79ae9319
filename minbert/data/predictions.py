"""Predictions in the file form of those who grade them: one table, which `write` fills in and minbert.checker reads.

The form follows that of the data: whoever trains on CMU's files hands in CMU's predictions.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from minbert import metrics
from minbert.data.readers import Example
from minbert.data.tasks import GLUE, TASKS
from minbert.errors import InputError
from minbert.files import write_text
from minbert.task import Task


def identifier(example: Example) -> str:
    return example.id


def lowered(example: Example) -> str:
    """CMU's program writes the sentence itself, as it reads it."""
    return example.text.lower().strip()


# GLUE's diagnostic set, which a model of MNLI predicts.
GRADED = TASKS | {"ax": replace(TASKS["mnli"], name="ax", folder="AX", files=(("test", "AX.tsv"),))}
OPTIONS = ("finetune", "pretrain")  # CS224N's words; pretrain is a frozen encoder


@dataclass(frozen=True)
class Form:
    """How one grader wants predictions."""

    suffix: str  # of the data's files
    stems: dict[str, str]  # task -> what file names call it
    names: tuple[str, ...]  # below predictions/; the first is written, the others are known as well
    header: str  # "" for none
    row: str
    key: Callable[[Example], str]  # what a row names its example by
    ids: str = ""  # what the keys look like where they are ids, of which no two are alike
    ordered: bool = True  # the rows stand in the order of the data
    graded: tuple[str, ...] = ("dev", "test")
    limits: tuple[float, float] = (-np.inf, np.inf)  # of a predicted number

    @cached_property
    def pattern(self) -> re.Pattern:
        """`row`, to be read backwards."""
        escaped = re.escape(self.row)
        return re.compile(escaped.replace(r"\{key\}", "(?P<key>.*?)").replace(r"\{value\}", "(?P<value>.*?)"))

    def place(self, name: str, task: str, split: str, option: str) -> Path:
        """The file below predictions/: `name` is one of `names`."""
        base, _, mismatched = split.partition("-")
        stem = self.stems[task] + "m" * bool(mismatched)  # MNLI-m, MNLI-mm
        return Path(name.format(stem=stem, split=base, option=option))

    def heading(self, task: str) -> str:
        return self.header.format(column=COLUMNS.get(task))


COLUMNS = {
    "sst5": "Predicted_Sentiment",
    "cfimdb": "Predicted_Sentiment",
    "quora": "Predicted_Is_Paraphrase",
    "sts": "Predicted_Similiary",  # so written in evaluation.py
}
# Both of CS224N's programs write so. The second one shuffles the test set: the order cannot matter.
STANFORD = {
    "suffix": ".csv",
    "header": "id \t {column} ",
    "row": "{key} , {value} ",
    "key": identifier,
    "ids": "[0-9a-f]{25}",
    "ordered": False,
}
FORMS = (
    Form(  # the GLUE leaderboard
        suffix=".tsv",
        stems={task.name: task.folder for task in GLUE} | {"mnli": "MNLI-m", "ax": "AX"},
        names=("{split}/{stem}.tsv",),  # the leaderboard's names do not tell dev from test
        header="index\tprediction",
        row="{key}\t{value}",
        key=identifier,
        ids="[0-9]+",
        graded=("test",),
        limits=(0.0, 5.0),
    ),
    Form(  # CS224N's classifier.py
        stems={"sst5": "sst", "cfimdb": "cfimdb"},
        names=("{option}-{stem}-{split}-out.csv",),
        **STANFORD,
    ),
    Form(  # CS224N's multitask_classifier.py
        stems={"sst5": "sst", "quora": "para", "sts": "sts"},
        names=("{stem}-{split}-output.csv", "{stem}-{split}-out.csv"),  # the program's, the handout's
        **STANFORD,
    ),
    Form(  # CMU ANLP's classifier.py
        suffix=".txt",
        stems={"sst5": "sst", "cfimdb": "cfimdb"},
        names=("{stem}-{split}-output.txt",),
        header="",
        row="{value} ||| {key}",
        key=lowered,
    ),
)


def form_of(suffix: str, task: str, multitask: bool = False) -> Form:
    """The form for data files of that suffix. `multitask` decides for sst5, which two of CS224N's programs predict."""
    forms = [form for form in FORMS if form.suffix == suffix and task in form.stems]
    if not forms:
        raise InputError(f"no grader takes predictions of {task} from {suffix} files")
    return forms[-1 if multitask else 0]  # FORMS has the single-task program first


def write_predictions(
    folder: Path, dataset, split: str, logits: np.ndarray, frozen: bool = False, multitask: bool = False
) -> Path:
    """Write the predictions for a split below `folder`/predictions, whole or not at all; returns the file.

    `dataset` is a batches.Dataset, `logits` [N,C] its outputs in the file's order. `frozen` is what CS224N's file names
    call pretrain. GLUE's go to predictions/dev/RTE.tsv and predictions/test/RTE.tsv, the courses', whose names tell the
    split, to predictions/ itself, as their programs put them. Raises InputError for a task that nobody grades.
    """
    task, form = dataset.task, form_of(dataset.path.suffix, dataset.task.name, multitask)
    values = [spell(task, form, value) for value in metrics.predictions_from_logits(task, logits)]
    lines = [form.heading(task.name)] if form.header else []
    for example, value in zip(dataset.examples, values, strict=True):
        lines.append(form.row.format(key=form.key(example), value=value))
    path = Path(folder) / "predictions" / form.place(form.names[0], task.name, split, OPTIONS[frozen])
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(line + "\n" for line in lines))
    return path


def spell(task: Task, form: Form, prediction) -> str:
    """A class as the data's files write it; a number within the grader's limits."""
    if task.labels:
        return task.labels[int(prediction)]
    return str(float(np.clip(prediction, *form.limits)))


@dataclass(frozen=True)
class File:
    """A file that a grader knows by its name."""

    form: Form
    task: Task
    split: str
    group: str  # the same for files that are handed in together


def known_files() -> dict[str, File]:
    """Name -> what the file has to hold."""
    return {
        form.place(name, task, split, option).name: File(form, GRADED[task], split, name.replace("{option}", option))
        for form in FORMS
        for name in form.names
        for option in OPTIONS
        for task in form.stems
        for graded in form.graded
        for split in GRADED[task].splits(graded)
    }

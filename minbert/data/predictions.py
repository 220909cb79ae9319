"""The forms in which graders take predictions, in one table. The writer fills a form in, minbert.submission checks it.

The data's files decide which form it is: a model that is trained on CMU's files writes predictions in CMU's form.
"""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from minbert import metrics
from minbert.data.dataset import Dataset
from minbert.data.readers import Example
from minbert.data.tasks import GLUE, ROWS, ROWS_GOETTINGEN, TASKS
from minbert.errors import InputError
from minbert.files import make_folders, read_lines, write_text
from minbert.task import Task

# The leaderboard also grades GLUE's diagnostic set, which a model of MNLI predicts.
GRADED = TASKS | {"ax": replace(TASKS["mnli"], name="ax", folder="AX", files=(("test", "AX.tsv"),))}
COLUMNS = {
    "sst5": "Predicted_Sentiment",
    "cfimdb": "Predicted_Sentiment",
    "quora": "Predicted_Is_Paraphrase",
    "sts": "Predicted_Similiary",  # the spelling of CS224N's evaluation.py
}


@dataclass(frozen=True)
class Form:
    """The form in which one grader takes predictions. Files of one form are handed in together."""

    path: str  # of a file, below predictions/; the suffix is also that of the data's files
    task_names: dict[str, str]  # task -> its name in the path
    row: str  # the key is the example's id or its sentence
    header: str = ""  # the first line; "" for none
    id_pattern: str = ""  # a regular expression for an id; "" if the key is the sentence
    ordered: bool = True  # whether the rows must be in the order of the data
    limits: tuple[float, float] = (-np.inf, np.inf)  # of a regression's predictions
    columns: dict[str, str] = field(default_factory=lambda: COLUMNS)  # task -> its column in the header
    sizes: dict[str, dict[str, int]] = field(default_factory=lambda: ROWS)  # task -> split -> rows of the data

    def row_pattern(self, any_id: bool = False) -> re.Pattern:
        """Matches a row, with the groups key and value. `any_id`: the ids of a user's own data can have any form."""
        key = ".*?" if any_id or not self.id_pattern else self.id_pattern
        pattern = re.escape(self.row).replace(r"\{key\}", f"(?P<key>{key})")
        return re.compile(pattern.replace(r"\{value\}", "(?P<value>.*?)"))

    def suits(self, task: str, path: Path) -> bool:
        """Whether the predictions for this data file are written in this form."""
        if task not in self.task_names or not self.path.endswith(path.suffix):
            return False
        of_goettingen = path.name.startswith(f"{GOETTINGEN.task_names.get(task)}-")
        return (self is GOETTINGEN) == of_goettingen

    def key(self, example: Example) -> str:
        """The id, or the sentence as CMU's program writes it."""
        return example.id if self.id_pattern else example.text.lower().strip()


LEADERBOARD = Form(  # of GLUE. Its file names do not tell dev from test, so each split gets a folder.
    path="{split}/{task}.tsv",
    task_names={task.name: task.folder for task in GLUE} | {"mnli": "MNLI-m", "ax": "AX"},
    row="{key}\t{value}",
    header="index\tprediction",
    id_pattern="[0-9]+",
    limits=(0.0, 5.0),
)
FINETUNE = Form(  # CS224N's classifier.py
    path="finetune-{task}-{split}-out.csv",
    task_names={"sst5": "sst", "cfimdb": "cfimdb"},
    row="{key} , {value} ",
    header="id \t {column} ",
    id_pattern="[0-9a-f]{25}",
    ordered=False,  # CS224N's programs may shuffle the test set
)
PRETRAIN = replace(FINETUNE, path="pretrain-{task}-{split}-out.csv")  # the same program with a frozen encoder
MULTITASK = replace(  # CS224N's multitask_classifier.py
    FINETUNE, path="{task}-{split}-output.csv", task_names={"sst5": "sst", "quora": "para", "sts": "sts"}
)
HANDOUT = replace(MULTITASK, path="{task}-{split}-out.csv")  # the names in CS224N's handout: checked, never written
CMU = Form(  # the classifier.py of CMU's ANLP
    path="{task}-{split}-output.txt", task_names={"sst5": "sst", "cfimdb": "cfimdb"}, row="{value} ||| {key}"
)
GOETTINGEN = Form(  # the multitask_classifier.py of M.Inf.2202; its header has a comma, and its rows a tab
    path="bert/{task}-{split}-output.csv",
    task_names={"sst5": "sst-sentiment", "quora": "quora-paraphrase", "sts": "sts-similarity"},  # as its data files
    row="{key}\t{value}",
    header="id,{column}",
    id_pattern=r"[^\s,]+",
    ordered=False,
    columns=COLUMNS | {"sts": "Predicted_Similarity"},
    sizes=ROWS_GOETTINGEN,
)


@dataclass(frozen=True)
class PredictionFile:
    """One file of a form."""

    form: Form
    task: Task
    split: str

    @property
    def path(self) -> Path:
        """The path below predictions/."""
        split, _, mismatched = self.split.partition("-")
        name = self.form.task_names[self.task.name] + ("m" if mismatched else "")  # MNLI-m, MNLI-mm
        return Path(self.form.path.format(task=name, split=split))

    @property
    def header(self) -> str:
        return self.form.header.format(column=self.form.columns.get(self.task.name))

    def format_content(self, keys: list[str], values: list[str]) -> str:
        """The file's text. Raises ValueError if the numbers of keys and values differ."""
        lines = [self.header] if self.header else []
        lines += [self.form.row.format(key=key, value=value) for key, value in zip(keys, values, strict=True)]
        return "".join(line + "\n" for line in lines)


FORMS = (LEADERBOARD, FINETUNE, PRETRAIN, MULTITASK, HANDOUT, CMU, GOETTINGEN)

# Every file name that a grader knows. The leaderboard's test files replace the dev files, which have the same names.
KNOWN_FILES: dict[str, PredictionFile] = {}
for form in FORMS:
    for task in map(GRADED.get, form.task_names):
        for split in (*task.splits("dev"), *task.splits("test")):
            file = PredictionFile(form, task, split)
            KNOWN_FILES[file.path.name] = file


def find_form(path: Path, task: str, frozen: bool = False, multitask: bool = False) -> Form:
    """The form for a data file. Both of CS224N's programs predict sst5: `multitask` chooses.

    Raises InputError if no grader takes predictions of the task from such a file.
    """
    classifier = PRETRAIN if frozen else FINETUNE
    course = (MULTITASK, classifier) if multitask else (classifier, MULTITASK)
    for form in (LEADERBOARD, *course, CMU, GOETTINGEN):
        if form.suits(task, path):
            return form
    raise InputError(f"no grader takes predictions of {task} from {path.suffix} files")


def write_predictions(
    folder: Path, dataset: Dataset, split: str, logits: np.ndarray, frozen: bool = False, multitask: bool = False
) -> Path:
    """Write the predictions for one split below `folder`/predictions, whole or not at all, and return the file's path.

    `logits` [N,C] are the model's outputs for the dataset's examples, in the file's order. `frozen` tells whether the
    encoder was frozen. Raises InputError if no grader takes predictions of this task.
    """
    task = dataset.task
    if task.own:
        return write_own_predictions(folder, dataset, split, logits)
    form = find_form(dataset.path, task.name, frozen, multitask)
    predictions = metrics.predictions_from_logits(task, logits)
    if task.labels:
        values = [task.labels[int(number)] for number in predictions]
    else:
        values = [str(float(number)) for number in np.clip(predictions, *form.limits)]
    file = PredictionFile(form, task, split)
    content = file.format_content([form.key(example) for example in dataset.examples], values)
    path = Path(folder) / "predictions" / file.path
    make_folders(path.parent)
    write_text(path, content)
    return path


def write_own_predictions(folder: Path, dataset: Dataset, split: str, logits: np.ndarray) -> Path:
    """Write <task>-<split>.csv: the examples' ids, the predictions, and the probability of each label."""
    path = own_path(folder, dataset.task.name, split)
    make_folders(path.parent)
    answers = metrics.answers_from_logits(dataset.task, logits)
    write_text(path, answers_csv([example.id for example in dataset.examples], answers))
    return path


def own_path(folder: Path, task: str, split: str) -> Path:
    """The predictions of a task that no grader knows."""
    return Path(folder) / "predictions" / f"{task}-{split}.csv"


def answers_csv(ids: Sequence[str], answers: Sequence[metrics.Answer]) -> str:
    """A header, then a row for each answer. Numbers have all digits of float32."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    labels = list(answers[0].probabilities) if answers else []
    writer.writerow(["id", "prediction", *labels])
    for name, (prediction, probabilities) in zip(ids, answers, strict=True):
        shown = prediction if labels else f"{prediction:.9g}"
        writer.writerow([name, shown, *(f"{p:.9g}" for p in probabilities.values())])
    return text.getvalue()


def read_predictions(folder: Path, task: str, split: str) -> list[str] | None:
    """The predictions that a run wrote for one split, as text, in the file's order; None if there are none.

    Raises InputError if the file is not one that write_predictions wrote.
    """
    own = own_path(folder, task, split)
    if own.exists():
        return read_own_predictions(own)
    for form in FORMS:
        if task not in form.task_names:
            continue
        file = PredictionFile(form, TASKS[task], split)
        path, pattern = Path(folder) / "predictions" / file.path, form.row_pattern(any_id=True)
        if path.exists():
            rows = [pattern.fullmatch(line) for _, line in read_lines(path)][1 if file.header else 0 :]
            if None in rows:
                raise InputError(f"{path} does not hold predictions of {task}")
            return [row["value"] for row in rows]
    return None


def read_own_predictions(path: Path) -> list[str]:
    """The column prediction of a file that write_own_predictions wrote. Raises InputError for another kind of file."""
    return [row[1] for row in read_own_rows(path)[1:]]


def read_own_rows(path: Path) -> list[list[str]]:
    """The header and the rows of a file of write_own_predictions. Raises InputError for another kind of file."""
    rows = list(csv.reader(line for _, line in read_lines(path)))
    if rows[0][:2] != ["id", "prediction"] or any(len(row) != len(rows[0]) for row in rows):
        raise InputError(f"{path} does not hold predictions")
    return rows


def read_probabilities(folder: Path, task: Task, split: str) -> np.ndarray | None:
    """The probabilities [N,C] that a run wrote for one split. Only files of a user's own task have them: None else.

    Raises InputError if the file is not one that write_predictions wrote for this task.
    """
    path = own_path(folder, task.name, split)
    if not task.labels or not path.exists():
        return None
    header, *rows = read_own_rows(path)
    try:
        if header[2:] != list(task.labels):
            raise ValueError
        return np.array([[float(value) for value in row[2:]] for row in rows])
    except ValueError:
        raise InputError(f"{path} does not hold the probabilities of {', '.join(task.labels)}") from None

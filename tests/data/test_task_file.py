"""A user's task file: what it says is what the task is, and each mistake is named."""

import numpy as np
import pytest
import torch

from minbert import losses
from minbert.data.readers import read_examples
from minbert.data.task_file import choose_tasks, load_task_file
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.metrics import compute_metrics, macro_f1

GOOD = {
    "name": '"reviews"', "train": '"train.csv"', "dev": '"dev.csv"', "text": '["review"]', "label": '"stars"',
    "labels": '["bad", "fine", "good"]', "metrics": '["macro-f1", "accuracy"]',
}  # fmt: skip


def task_file(folder, **changes):
    """The good file with some values replaced; None leaves a key out."""
    values = {key: value for key, value in (GOOD | changes).items() if value is not None}
    path = folder / "reviews.toml"
    path.write_text("".join(f"{key} = {value}\n" for key, value in values.items()), encoding="utf-8")
    return path


def test_the_task_is_what_the_file_says(tmp_path):
    task = load_task_file(task_file(tmp_path))
    assert (task.name, task.text, task.label, task.labels) == ("reviews", ("review",), "stars", ("bad", "fine", "good"))
    assert task.metrics == ("macro-f1", "accuracy") and task.score == ("macro-f1",)
    assert task.outputs == 3 and task.loss is losses.cross_entropy
    assert task.paths(tmp_path / "elsewhere", "dev") == [tmp_path / "dev.csv"]  # --data has no influence
    assert task.splits("test") == ()


def test_a_task_without_labels_is_a_regression(tmp_path):
    task = load_task_file(task_file(tmp_path, labels=None, metrics='["spearman"]', text='["a", "b"]'))
    assert task.outputs == 1 and task.segments == 2 and task.loss is losses.mean_squared_error
    x, y = torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0], [2.0]])
    assert task.divergence(x, y).item() == pytest.approx(2.0)


def test_labels_may_be_whole_numbers(tmp_path):
    assert load_task_file(task_file(tmp_path, labels="[0, 1, 2]")).labels == ("0", "1", "2")


def test_tasks_of_the_table_and_of_files_are_chosen_together(tmp_path):
    pairs = task_file(tmp_path, text='["a", "b"]')
    own, rte = choose_tasks([str(pairs), "rte"], pairs="separate")
    assert own.name == "reviews" and own.separate and rte.separate
    with pytest.raises(InputError, match="'rtee' is not a task; did you mean rte"):
        choose_tasks(["rtee"])


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"name": None}, "the key 'name' is missing"),
        ({"lable": '"stars"'}, "the key 'lable' is unknown; .* did you mean label"),
        ({"name": '"rte"'}, "name 'rte' is a task of the table"),
        ({"name": '"a/b"'}, "name must have only letters, digits, - and _"),
        ({"name": '"type"'}, "name 'type' has another meaning inside a model"),
        ({"name": '"keys"'}, "name 'keys' has another meaning"),
        ({"name": '"dense"'}, "name 'dense' has another meaning"),
        ({"name": '"bias"'}, "name 'bias' has another meaning"),
        ({"name": '"published"'}, "name 'published' has another meaning"),
        ({"name": "3"}, "name must be a text in quotes, not 3"),
        ({"text": '["a", "b", "c"]'}, "text must be a list of one to 2 texts"),
        ({"text": '["a", "a"]'}, "text names 'a' twice"),
        ({"text": '["stars"]'}, "the columns of text and label must differ"),
        ({"labels": '["good"]'}, "labels must be a list of two labels or more"),
        ({"labels": '["good", "good"]'}, "labels names 'good' twice"),
        ({"labels": '"good"'}, "labels must be a list of two labels or more"),
        ({"metrics": '["pearson"]'}, "'pearson' is not a metric for 3 labels; there are accuracy, macro-f1"),
        ({"metrics": '["f1"]'}, "'f1' is not a metric for 3 labels"),
        ({"metrics": '["accuracy"]', "labels": None}, "'accuracy' is not a metric for a regression"),
        ({"dev": '"train.csv"'}, "train and dev must be different files"),
        ({"train": "[1"}, "is not valid TOML"),
    ],
)
def test_a_mistake_is_named(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        load_task_file(task_file(tmp_path, **changes))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml does not exist"):
        load_task_file(tmp_path / "none.toml")
    with pytest.raises(
        InputError, match=r"train\.csv does not exist; the paths in a task file are relative to the file"
    ):
        read_examples(load_task_file(task_file(tmp_path)), "anywhere", "train")


def test_examples_have_ids_texts_and_labels_and_rows_without_a_label_are_left_out(tmp_path):
    task = load_task_file(task_file(tmp_path, dev='"dev.jsonl"'))
    (tmp_path / "train.csv").write_text("stars;id;review\ngood;x1;red\n;x2;green\nbad;x3;blue\n", encoding="utf-8")
    (tmp_path / "dev.jsonl").write_text('{"review": "red", "stars": "good"}\n', encoding="utf-8")
    train = read_examples(task, "", "train")
    assert [(row.id, row.text, row.label) for row in train.rows] == [("x1", "red", 2), ("x3", "blue", 0)]
    assert train.left_out == [3] and train.form == "separated by semicolons"
    (row,) = read_examples(task, "", "dev").rows
    assert (row.id, row.label) == ("0", 2)
    (tmp_path / "train.csv").write_text("stars,review\ngreat,red\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"train\.csv:2: label 'great' is not one of bad, fine, good"):
        read_examples(task, "", "train")


@pytest.mark.parametrize("classes", [2, 5])
def test_macro_f1_is_the_mean_over_the_classes_of_a_slow_count(classes):
    rng = np.random.default_rng(classes)
    predictions, labels = rng.integers(classes, size=37), rng.integers(classes, size=37)
    scores = []
    for c in range(classes):
        hits = sum(p == c == y for p, y in zip(predictions, labels))
        precision, recall = hits / max(1, sum(predictions == c)), hits / max(1, sum(labels == c))
        scores.append(2 * precision * recall / (precision + recall) if hits else 0.0)
    assert macro_f1(predictions, labels) == pytest.approx(np.mean(scores), abs=1e-12)
    assert macro_f1(np.array([0, 0]), np.array([0, 0])) == 1.0
    assert compute_metrics(TASKS["rte"], labels, labels) == {"accuracy": 1.0}

"""Files of predictions, byte for byte as their graders want them."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from support.factories import make_dataset, vocabulary_backend, write_rows

from minbert.data.dataset import Dataset
from minbert.data.predictions import KNOWN_FILES, read_predictions, write_predictions
from minbert.data.readers import Example, read_examples
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.tokenizer import Tokenizer

IDS = "0a1b2c3d4e5f60718293a4b5c", "ffffffffffffffffffffffff0"


def make_two_examples(task: str, file: str) -> SimpleNamespace:
    """A dataset of two examples, as they are read from `file`."""
    ids = IDS if file.endswith(".csv") else ("0", "1")
    rows = [Example(ids[0], " A Cat ,\tsaid \xc9milie ", "b", None), Example(ids[1], "dog", "c", None)]
    return SimpleNamespace(task=TASKS[task], path=Path(file), examples=rows)


FIRST, SECOND = [[9.0, 0.0], [0.0, 9.0]], [[0.0, 9.0], [9.0, 0.0]]  # class 0 then 1; class 1 then 0
FIVE = [[0, 0, 0, 0, 1.0], [0, 1.0, 0, 0, 0]]
NUMBERS = [[5.25], [-0.5]]
GLUE = [
    ("cola", "test", SECOND, "predictions/test/CoLA.tsv", "1", "0"),
    ("sst2", "dev", SECOND, "predictions/dev/SST-2.tsv", "1", "0"),
    ("mrpc", "test", FIRST, "predictions/test/MRPC.tsv", "0", "1"),
    ("stsb", "test", NUMBERS, "predictions/test/STS-B.tsv", "5.0", "0.0"),
    ("stsb", "dev", [[0.5], [3.125]], "predictions/dev/STS-B.tsv", "0.5", "3.125"),
    ("qqp", "test", FIRST, "predictions/test/QQP.tsv", "0", "1"),
    ("mnli", "test", [[9, 0, 0], [0, 9, 0]], "predictions/test/MNLI-m.tsv", "entailment", "neutral"),
    ("mnli", "test-mismatched", [[0, 0, 9], [0, 9, 0]], "predictions/test/MNLI-mm.tsv", "contradiction", "neutral"),
    ("mnli", "dev-mismatched", [[0, 0, 9], [0, 9, 0]], "predictions/dev/MNLI-mm.tsv", "contradiction", "neutral"),
    ("qnli", "test", FIRST, "predictions/test/QNLI.tsv", "entailment", "not_entailment"),
    ("rte", "test", SECOND, "predictions/test/RTE.tsv", "not_entailment", "entailment"),
    ("wnli", "test", SECOND, "predictions/test/WNLI.tsv", "1", "0"),
]


@pytest.mark.parametrize("task, split, logits, place, first, second", GLUE)
def test_glue_files_hold_what_the_leaderboard_takes(tmp_path, task, split, logits, place, first, second):
    path = write_predictions(tmp_path, make_two_examples(task, "test.tsv"), split, np.array(logits, np.float32))
    assert path == tmp_path / place
    assert path.read_bytes() == f"index\tprediction\n0\t{first}\n1\t{second}\n".encode()


STANFORD = [
    ("sst5", "dev", FIVE, {}, "finetune-sst-dev-out.csv", "Predicted_Sentiment", "4", "1"),
    ("sst5", "test", FIVE, {"frozen": True}, "pretrain-sst-test-out.csv", "Predicted_Sentiment", "4", "1"),
    ("sst5", "test", FIVE, {"multitask": True}, "sst-test-output.csv", "Predicted_Sentiment", "4", "1"),
    ("cfimdb", "test", SECOND, {}, "finetune-cfimdb-test-out.csv", "Predicted_Sentiment", "1", "0"),
    ("quora", "dev", [[-0.1], [0.1]], {}, "para-dev-output.csv", "Predicted_Is_Paraphrase", "0.0", "1.0"),
    ("quora", "test", [[2], [0]], {"multitask": True}, "para-test-output.csv", "Predicted_Is_Paraphrase", "1.0", "0.0"),
    ("sts", "test", NUMBERS, {}, "sts-test-output.csv", "Predicted_Similiary", "5.25", "-0.5"),
]  # fmt: skip


@pytest.mark.parametrize("task, split, logits, more, name, column, first, second", STANFORD)
def test_cs224n_files_hold_what_both_of_its_programs_write(
    tmp_path, task, split, logits, more, name, column, first, second
):
    """Blanks around the comma and at the ends, a tab in the header alone, and numbers as the model gave them."""
    path = write_predictions(tmp_path, make_two_examples(task, "x.csv"), split, np.array(logits, np.float32), **more)
    assert path == tmp_path / "predictions" / name
    assert path.read_bytes() == f"id \t {column} \n{IDS[0]} , {first} \n{IDS[1]} , {second} \n".encode()


@pytest.mark.parametrize(
    "task, split, logits, name, first, second",
    [
        ("sst5", "dev", FIVE, "sst-dev-output.txt", "4", "1"),
        ("cfimdb", "test", SECOND, "cfimdb-test-output.txt", "1", "0"),
    ],
)
def test_cmu_files_hold_the_sentence_as_its_program_reads_it(tmp_path, task, split, logits, name, first, second):
    path = write_predictions(tmp_path, make_two_examples(task, "x.txt"), split, np.array(logits), frozen=True)
    assert path == tmp_path / "predictions" / name
    assert path.read_bytes() == f"{first} ||| a cat ,\tsaid émilie\n{second} ||| dog\n".encode()


def test_the_table_has_every_file_name_that_a_grader_knows():
    """The leaderboard's eleven; eight and six of CS224N's programs, six of its handout; CMU's four; Göttingen's six."""
    names = sorted(KNOWN_FILES)
    assert len(names) == 11 + 8 + 6 + 6 + 4 + 6
    assert [name for name in names if name.endswith(".tsv")] == (
        "AX CoLA MNLI-m MNLI-mm MRPC QNLI QQP RTE SST-2 STS-B WNLI".replace(" ", ".tsv ") + ".tsv"
    ).split()
    assert {KNOWN_FILES[name].split for name in names if name.endswith(".tsv")} == {"test", "test-mismatched"}


def test_each_example_gets_one_row_and_nothing_half_written_stays(tmp_path):
    dataset = make_dataset(TASKS["rte"], size=3)
    with pytest.raises(ValueError, match="shorter"):
        write_predictions(tmp_path, dataset, "dev", np.zeros((2, 2)))
    assert list(tmp_path.iterdir()) == []
    path = write_predictions(tmp_path, dataset, "dev", np.zeros((3, 2)))
    assert [p.name for p in path.parent.iterdir()] == ["RTE.tsv"]
    assert path.read_text().count("\n") == 4


def test_a_task_that_no_grader_takes_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no grader takes predictions of rte from \.csv files"):
        write_predictions(tmp_path, make_two_examples("rte", "rte.csv"), "test", np.zeros((2, 2)))


@pytest.mark.parametrize("name", ["qqp", "sst5", "cfimdb"])
def test_correct_predictions_of_a_dev_file_repeat_its_ids_and_labels(tmp_path, name):
    task = TASKS[name]
    rows = {
        "qqp": [["id", "question1", "question2", "is_duplicate"], ["7", "a", "b", "1"], ["3", "c", "d", "0"]],
        "sst5": [["", "id", "sentence", "sentiment"], ["0", IDS[0], '"a ""cat"""', "4"], ["1", IDS[1], "b", "0"]],
        "cfimdb": [["1 ||| a CAT "], ["0 ||| b"]],
    }[name]
    write_rows(tmp_path / task.folder / ("cfimdb-dev.txt" if name == "cfimdb" else dict(task.files)["dev"]), rows)
    dataset = Dataset(task, read_examples(task, tmp_path, "dev"), Tokenizer(vocabulary_backend()), 16)
    path = write_predictions(tmp_path, dataset, "dev", np.eye(5)[dataset.labels.int()][:, : task.outputs])
    assert (
        path.read_text().splitlines()
        == {
            "qqp": ["index\tprediction", "7\t1", "3\t0"],
            "sst5": ["id \t Predicted_Sentiment ", f"{IDS[0]} , 4 ", f"{IDS[1]} , 0 "],
            "cfimdb": ["1 ||| a cat", "0 ||| b"],
        }[name]
    )


@pytest.mark.parametrize(
    "name, stem, column, logits, values",
    [
        ("sst5", "sst-sentiment", "Predicted_Sentiment", np.eye(5)[[4, 0]], ["4", "0"]),
        ("quora", "quora-paraphrase", "Predicted_Is_Paraphrase", np.array([[1.0], [-1.0]]), ["1.0", "0.0"]),
        ("sts", "sts-similarity", "Predicted_Similarity", np.array([[2.5], [-0.5]]), ["2.5", "-0.5"]),
    ],
)
def test_goettingens_form_has_a_comma_in_the_header_and_tabs_in_the_rows(name, stem, column, logits, values, tmp_path):
    dataset = make_two_examples(name, f"{stem}-dev.csv")
    path = write_predictions(tmp_path, dataset, "dev", logits, multitask=True)
    assert path == tmp_path / "predictions" / "bert" / f"{stem}-dev-output.csv"
    rows = [f"{example.id}\t{value}" for example, value in zip(dataset.examples, values, strict=True)]
    assert path.read_text().splitlines() == [f"id,{column}", *rows]
    assert read_predictions(tmp_path, name, "dev") == values

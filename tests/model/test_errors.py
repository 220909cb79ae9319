"""A message is one short line that prints, even if it quotes a file that holds anything."""

import tracemalloc
from pathlib import Path

import pytest

from minbert.data.readers import read_examples
from minbert.data.tasks import TASKS
from minbert.errors import MAX_LENGTH, InputError, first_line


@pytest.mark.parametrize("text, said", [("a\nb", "a\\nb"), ("\x1b[31m", "\\x1b[31m"), ("\u202e", "\\u202e"),
                                        ("\ud800", "\\ud800"), ("é 猫 λ\\n", "é 猫 λ\\n")])  # fmt: skip
def test_characters_that_do_not_print_are_escaped(text, said):
    assert str(InputError(text)) == said
    assert str(InputError(f"again: {InputError(text)}")) == f"again: {said}"


@pytest.mark.parametrize("filling", ["x", "\n", "\U0010ffff"])
def test_a_long_message_keeps_its_start_and_its_end(filling):
    said = str(InputError("file:3 " + filling * 10**7 + " is not one of 0, 1"))
    assert said.startswith("file:3 ") and said.endswith(" is not one of 0, 1") and " ... " in said
    assert len(said) <= MAX_LENGTH and said.isprintable()


def test_the_first_line_of_an_error_is_its_text_or_the_name_of_its_type():
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(MemoryError()) == "MemoryError"


def refusal(folder: Path, name: str, rows: str) -> str:
    """The message about a training file with these rows."""
    path = folder / TASKS[name].folder / "train.tsv"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(rows.encode())
    with pytest.raises(InputError) as error:
        read_examples(TASKS[name], folder, "train")
    return str(error.value)


def test_the_message_about_a_label_of_ten_megabytes_is_short(tmp_path):
    tracemalloc.start()
    said = refusal(tmp_path, "sst2", "sentence\tlabel\na\t" + "\x1b[31m" * (2 * 10**6) + "\n")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "train.tsv:2: label '" in said and said.endswith("is not one of 0, 1")
    assert said.isprintable() and len(said) <= MAX_LENGTH and peak < 8 * 10**7


def test_line_ends_in_the_names_of_columns_and_folders_are_escaped(tmp_path):
    folder = tmp_path / "a\nb"
    folder.mkdir()
    said = refusal(folder, "sst2", "sentence\rlabel\x1b\n")
    assert "a\\nb/SST-2/train.tsv has no column 'sentence'; its columns are sentence\\rlabel\\x1b" in said


@pytest.mark.parametrize("score", ["1_0", "1e39", "-1e39", "_", "nan"])
def test_a_score_must_be_a_plain_number_of_single_precision(tmp_path, score):
    rows = f"index\tsentence1\tsentence2\tscore\n0\ta\tb\t{score}\n"
    assert f"train.tsv:2: score '{score}' is not a number" in refusal(tmp_path, "stsb", rows)

"""A user's own files: the separator is found, and mistakes are named with their line and a likely cause."""

import csv
import io
import json

import pytest

from minbert.data import own_files
from minbert.data.own_files import open_own_file
from minbert.data.readers import read_examples, read_file
from minbert.data.tasks import TASKS
from minbert.errors import InputError
from minbert.task import Task

ROWS = [["7", 'He said "no", twice.', "good"], ["8", "a\ttab; and | a bar", "bad"], ["9", "two\nlines", "good"]]
OWN_TASK = Task("own", "", ("review",), "stars", ("bad", "good"), ("accuracy",), ("accuracy",), (), own=True)


def write(path, text: str):
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("separator, name", [(",", "commas"), ("\t", "tabs"), (";", "semicolons"), ("|", "bars")])
@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt"])
def test_what_the_csv_module_wrote_is_read_back_whatever_the_separator(separator, name, suffix, tmp_path):
    text = io.StringIO()
    csv.writer(text, delimiter=separator).writerows([["id", "review", "stars"], *ROWS])
    file = open_own_file(write(tmp_path / f"a{suffix}", text.getvalue()), ["review", "stars"])
    assert file.header == ["id", "review", "stars"] and file.form == f"separated by {name}"
    assert list(file.records) == [(2, ROWS[0]), (3, ROWS[1]), (4, ROWS[2])]


def test_the_separator_with_all_needed_columns_wins(tmp_path):
    path = write(tmp_path / "a.csv", "text;mark,b;label,c\n1;2,3;4,5\n")
    assert open_own_file(path, ["text", "label,c"]).form == "separated by semicolons"
    assert open_own_file(path, ["b;label", "c"]).form == "separated by commas"


def test_one_column_alone_has_no_separator(tmp_path):
    file = open_own_file(write(tmp_path / "test.csv", "review\nred\n\ngreen\n"), ["review"])
    assert [fields for _, fields in file.records] == [["red"], ["green"]]


@pytest.mark.parametrize("name, line", [("a.tsv", "red, green"), ("a.csv", '"red, green"'), ("a.txt", '"red, green"')])
def test_a_header_of_one_column_stands_for_tabs_in_a_tsv_and_else_for_commas(name, line, tmp_path):
    file = open_own_file(write(tmp_path / name, f"review\n{line}\n"), ["review"])
    assert list(file.records) == [(2, ["red, green"])]


@pytest.mark.parametrize(
    "name, text",
    [("test.csv", 'review\nred\n""\n\ngreen\n'),
     ("test.jsonl", '{"review": "red"}\n{"review": ""}\n\n{"review": "green"}\n')],
)  # fmt: skip
def test_an_empty_text_is_a_row_and_an_empty_line_is_none(name, text, tmp_path):
    """Without an id the rows are numbered: a row that went missing would give the next ones other numbers."""
    rows = read_file(OWN_TASK, write(tmp_path / name, text), "test").rows
    assert [(row.id, row.text) for row in rows] == [("0", "red"), ("1", ""), ("2", "green")]


@pytest.mark.parametrize(
    "name, text",
    [("test.csv", "index,review,id\n5,red,a\n"), ("test.jsonl", '{"index": 5, "review": "red", "id": "a"}\n')],
)
def test_the_column_id_names_the_rows_also_if_there_is_an_index(name, text, tmp_path):
    (row,) = read_file(OWN_TASK, write(tmp_path / name, text), "test").rows
    assert row.id == "a"


@pytest.mark.parametrize(
    "text, columns",
    [
        ('{"review": "red", "lang": "id"}\n', ["review"]),
        ('{"review": "red", "meta": {"id": 1}}\n', ["review"]),
        ('\n{"review": "red", "id": 1}\n', ["review", "id"]),
    ],
)
def test_the_ids_of_json_lines_are_a_key_of_the_first_object(text, columns, tmp_path):
    file = open_own_file(write(tmp_path / "a.jsonl", text), ["review"])
    assert file.header == columns and len(list(file.records)) == 1


def test_byte_order_marks_are_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf\xef\xbb\xbfid,review\n1,red\n")
    assert open_own_file(path, ["review"]).header == ["id", "review"]


def test_json_lines_give_the_text_that_a_csv_file_would_have(tmp_path):
    rows = [{"id": 3, "a": "x", "b": 2}, {"b": 2.5, "a": "y\n", "id": "q"}, {"a": "", "b": True, "id": None, "c": 1}]
    path = write(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    file = open_own_file(path, ["a", "b"])
    assert file.header == ["a", "b", "id"]
    assert list(file.records) == [(1, ["x", "2", "3"]), (2, ["y\n", "2.5", "q"]), (3, ["", "true", ""])]


@pytest.mark.parametrize(
    "name, text, message",
    [
        ("a.csv", "id,reviews,stars\n", "no column 'review' in its first line. Its columns are separated by commas: "
         "id, reviews, stars; did you mean 'reviews'?"),
        ("a.csv", "id\tReview\tstars\n", "separated by tabs: id, Review, stars; did you mean 'Review'?"),
        ("a.csv", "red green\n", "Its columns are only 'red green'"),
        ("a.csv", "review,stars,review\n", "two columns are named 'review'"),
        ("a.csv", "review,stars\nred,1\na, b,2\n", ":3 has 3 columns instead of 2. A text with one of the commas that"),
        ("a.csv", "review,stars\nred\n", ":2 has 1 columns instead of 2. The line may have been cut"),
        ("a.csv", 'review,stars\nred,1\n"red,1\n', ":3: the quotes in the record that starts here do not match"),
        ("a.csv", 'review,stars\n"red" green,1\n', ":2: the quotes in the record that starts here do not match"),
        ("a.csv", "", "is empty"),
        ("a.csv", "\nreview,stars\n", ": the first line is empty: it must hold the names of the columns"),
        ("a.csv", "review,stars\rred,1\r", ":1 does not hold the names of the columns: "),
        ("a.jsonl", '{"review": 1, "stars": 2}\n{"review"\n', ":2 is not JSON"),
        ("a.jsonl", '{"review": 1, "stars": 2, "review": 3}\n', ":1 is not JSON: the key 'review' appears twice"),
        ("a.jsonl", '{"review": "a \\ud83d", "stars": 2}\n', ":1: 'review' holds half of a character, 'a \\ud83d'"),
        ("a.jsonl", "[1]\n", ":1 is not a JSON object"),
        ("a.jsonl", '{"reviews": 1, "stars": 2}\n', ":1 has no key 'review'; did you mean 'reviews'?"),
        ("a.jsonl", '{"review": ["x"], "stars": 2}\n', ":1: 'review' must be a text or a number, not [\"x\"]"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_with_its_line_and_a_likely_cause(name, text, message, tmp_path):
    path = write(tmp_path / name, text)
    with pytest.raises(InputError) as caught:
        list(open_own_file(path, ["review", "stars"]).records)
    assert str(caught.value).startswith(str(path)) and message in str(caught.value)


def test_a_field_without_an_end_is_refused(tmp_path, monkeypatch):
    """It has many short lines, which a bound on the length of a line lets through."""
    monkeypatch.setattr(own_files, "LONGEST_TEXT", 1000)
    path = write(tmp_path / "a.csv", 'review,stars\nred,1\n"' + "x\n" * 501 + '",1\n')
    with pytest.raises(InputError, match=r"a\.csv:3: a field has more than 1000 characters$"):
        list(open_own_file(path, ["review", "stars"]).records)


def test_a_long_field_of_the_courses_files_is_read_and_one_without_an_end_is_refused(tmp_path, monkeypatch):
    """The csv module's own limit, 131,072, is a limit of the whole process."""
    csv.field_size_limit(131_072)
    path, header = tmp_path / "ids-sst-train.csv", "\tid\tsentence\tsentiment\n"
    text = "red " * 50_000
    path.write_text(f"{header}0\ta\t{text}\t1\n")
    assert read_examples(TASKS["sst5"], tmp_path, "train").rows[0].text == text
    monkeypatch.setattr(own_files, "LONGEST_TEXT", 1000)
    path.write_text(f'{header}0\ta\tred\t1\n1\tb\t"' + "x\n" * 501 + '"\t1\n')
    with pytest.raises(InputError, match=r"train\.csv:3: a field has more than 1000 characters$"):
        read_examples(TASKS["sst5"], tmp_path, "train")

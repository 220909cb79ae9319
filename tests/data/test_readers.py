"""The nine GLUE tasks and the courses' in their official layouts, what the files may hold, and how batches are cut."""

import collections
import csv

import pytest
import torch
from support.factories import VOCABULARY, write_rows
from support.official_rows import OFFICIAL, PUBLISHED

from minbert.data.dataset import WINDOW, Dataset
from minbert.data.readers import Example, Examples, read_examples, subset
from minbert.data.tasks import GLUE, ROWS, TASKS
from minbert.errors import InputError
from minbert.tokenizer import load_tokenizer


@pytest.mark.parametrize("name", OFFICIAL)
def test_the_official_layout_of_each_glue_task_is_read(tmp_path, name):
    task, (header, row, expected) = TASKS[name], OFFICIAL[name]
    write_rows(tmp_path / task.folder / "train.tsv", [header, row] if header else [row])
    (example,) = read_examples(task, tmp_path, "train").rows
    assert (example.text, example.pair, example.label) == expected


def test_all_nine_glue_tasks_are_in_the_table():
    assert {task.name for task in GLUE} == set(OFFICIAL)
    assert TASKS["mnli"].splits("dev") == ("dev", "dev-mismatched")
    assert TASKS["rte"].splits("dev") == ("dev",)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_numbers_of_records_are_the_published_ones(name):
    assert tuple(ROWS[name].values()) == PUBLISHED[name]
    assert tuple(ROWS[name]) == tuple(split for split, _ in TASKS[name].files)


def test_cola_test_file_has_a_header_and_no_labels(tmp_path):
    write_rows(tmp_path / "CoLA" / "test.tsv", [["index", "sentence"], ["0", "the cat"], ["1", "dog"]])
    rows = read_examples(TASKS["cola"], tmp_path, "test").rows
    assert rows == [Example("0", "the cat", None, None, 2), Example("1", "dog", None, None, 3)]


@pytest.mark.parametrize("fields", [["gj04"], ["gj04", "1"], ["gj04", "1", "*"]])
def test_a_record_that_is_cut_before_its_text_is_an_error_and_not_one_without_a_label(tmp_path, fields):
    """In CoLA the text is the last column, after the label: where the label is missing, the text is too."""
    write_rows(tmp_path / "CoLA" / "train.tsv", [["gj04", "0", "*", "cat the"], fields])
    with pytest.raises(InputError, match=rf"train.tsv:2 has {len(fields)} columns instead of 4$"):
        read_examples(TASKS["cola"], tmp_path, "train")


def rte(tmp_path, text: str, encoding="utf-8") -> Examples:
    (tmp_path / "RTE").mkdir(exist_ok=True)
    (tmp_path / "RTE" / "train.tsv").write_bytes(text.encode(encoding))
    return read_examples(TASKS["rte"], tmp_path, "train")


HEADER = "index\tsentence1\tsentence2\tlabel\n"


def test_a_byte_order_mark_is_no_text_but_quotes_and_line_separators_are(tmp_path):
    text = "\ufeff" + HEADER + "\n" + '0\t"a" b"\tc\u2028d\x85e\tentailment\r\n1\tx\ry\t z \tnot_entailment'
    first, second = rte(tmp_path, text).rows
    assert (first.text, first.pair, first.label) == ('"a" b"', "c\u2028d\x85e", 0)
    assert (second.text, second.pair, second.label) == ("x\ry", " z ", 1)


def test_rows_without_a_label_are_counted_and_left_out(tmp_path):
    read = rte(tmp_path, HEADER + "0\ta\tb\tentailment\n1\ta\tb\t\n2\ta\tb\n3\ta\tb\tnot_entailment\n")
    assert read.left_out == [3, 4]
    assert [example.id for example in read.rows] == ["0", "3"]


def test_rows_that_are_left_out_count_in_the_numbers_of_the_others(tmp_path):
    header, row, _ = OFFICIAL["mrpc"]
    write_rows(tmp_path / "MRPC" / "train.tsv", [header, row, ["", *row[1:]], row])
    read = read_examples(TASKS["mrpc"], tmp_path, "train")
    assert read.left_out == [3] and [example.id for example in read.rows] == ["0", "2"]


def test_short_rows_of_qqp_are_left_out(tmp_path):
    header, row, _ = OFFICIAL["qqp"]
    write_rows(tmp_path / "QQP" / "train.tsv", [header, row, row[:3], row])
    read = read_examples(TASKS["qqp"], tmp_path, "train")
    assert (len(read.rows), read.left_out, read.rows[1].id, read.rows[1].line) == (2, [3], "9", 4)


@pytest.mark.parametrize(
    "text, message",
    [
        (HEADER + "0\ta\n", r"train.tsv:2 has 2 columns instead of 4"),
        (HEADER + "0\ta\tb\tc\tentailment\n", r"train.tsv:2 has 5 columns instead of 4"),
        (HEADER + "0\ta\tb\tperhaps\n", r"train.tsv:2: label 'perhaps' is not one of entailment, not_entailment"),
        ("index\tsentence1\tlabel\n", r"train.tsv has no column 'sentence2'; its columns are index, sentence1, label"),
        (HEADER, "train.tsv has no rows"),
        ("", "train.tsv is empty$"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        rte(tmp_path, text)


def test_missing_files_other_encodings_and_labels_that_are_no_numbers_are_refused(tmp_path):
    wanted = r"RTE/dev.tsv does not exist; --data must name the folder .*: python -m minbert.download rte --to "
    with pytest.raises(InputError, match=wanted):
        read_examples(TASKS["rte"], tmp_path, "dev")
    with pytest.raises(InputError, match=r"train.tsv:3 is not UTF-8"):
        rte(tmp_path, HEADER + "0\ta\tb\tentailment\n1\té\tb\tentailment\n", encoding="latin-1")
    header, row, _ = OFFICIAL["stsb"]
    write_rows(tmp_path / "STS-B" / "train.tsv", [header, [*row[:-1], "nan"]])
    with pytest.raises(InputError, match=r"train.tsv:2: score 'nan' is not a number"):
        read_examples(TASKS["stsb"], tmp_path, "train")


def test_a_subset_is_the_same_in_every_run():
    rows = [Example(str(i), "a", None, 0) for i in range(100)]
    chosen = subset(Examples(None, rows, []), 13).rows
    assert chosen == subset(Examples(None, rows, []), 13).rows
    assert len(chosen) == 13 == len(set(chosen)) and chosen != rows[:13]
    assert subset(Examples(None, rows, []), None).rows == rows


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    """As many rows as RTE has, of lengths spread as unevenly."""
    (tmp_path / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n")
    generator = torch.Generator().manual_seed(0)
    sizes = (torch.randn(2490, generator=generator) * 0.5 + 3.8).exp().clamp(1, 200).int().tolist()
    rows = [Example(str(i), "cat " * n, "dog", i % 2) for i, n in enumerate(sizes)]
    return Dataset(TASKS["rte"], Examples(None, rows, []), load_tokenizer(tmp_path), 256)


def test_each_example_comes_once_an_epoch_in_an_order_of_its_own(dataset):
    epochs = [dataset.shuffled(32, seed, epoch) for seed, epoch in ((0, 1), (0, 2), (1, 1))]
    for batches in epochs:
        assert collections.Counter(row for rows in batches for row in rows) == collections.Counter(range(2490))
        assert sorted(map(len, batches)) == [2490 % 32] + [32] * (2490 // 32)
    assert dataset.shuffled(32, 0, 1) == epochs[0]
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


def real_share(dataset, batches) -> float:
    padded = sum(int(dataset.lengths[rows].max()) * len(rows) for rows in batches)
    return int(dataset.lengths.sum()) / padded


def test_batches_are_mostly_real_tokens_and_not_in_order_of_length(dataset):
    batches = dataset.shuffled(32, 0, 1)
    assert real_share(dataset, batches) > 0.85
    assert real_share(dataset, [list(range(i, min(i + 32, 2490))) for i in range(0, 2490, 32)]) < 0.5  # unsorted
    longest = [dataset.lengths[rows].max().item() for rows in batches]
    rank = torch.tensor(longest).argsort().argsort().double()
    assert torch.corrcoef(torch.stack([rank, torch.arange(len(rank)).double()]))[0, 1].abs() < 0.4
    assert len(dataset) > WINDOW * 32  # more than one window was cut


def test_a_batch_is_padded_to_its_longest_row_and_marks_the_real_tokens(dataset):
    batch = dataset.collate([3, 5, 8])
    assert batch.input_ids.shape == batch.attention_mask.shape == (3, int(dataset.lengths[[3, 5, 8]].max()))
    assert batch.attention_mask.sum(1).tolist() == dataset.lengths[[3, 5, 8]].tolist()
    assert (batch.input_ids[~batch.attention_mask] == VOCABULARY.index("[PAD]")).all()
    assert batch.labels.tolist() == [1, 1, 0] and batch.index.tolist() == [3, 5, 8] and len(batch) == 3
    assert batch.token_type_ids.sum(1).tolist() == [2, 2, 2]  # dog [SEP]


def test_the_order_of_evaluation_holds_every_example_once(dataset):
    assert sorted(row for rows in dataset.by_length(50) for row in rows) == list(range(2490))


def test_the_fields_of_the_courses_files_may_be_quoted(tmp_path):
    """Doubled quotes, a record over two lines, and one whose label an unbalanced quote swallowed."""
    text = '\tid\tsentence1\tsentence2\tis_duplicate\n0\taa\t"say ""hi"""\tb\t1.0\n1\tbb\t"two\nlines"\tc "d"\t0.0\n'
    (tmp_path / "quora-train.csv").write_text(text + '2\tcc\tlost\t"b\t1.0"\n', encoding="utf-8")
    read = read_examples(TASKS["quora"], tmp_path, "train")
    assert read.rows == [Example("aa", 'say "hi"', "b", 1, 2), Example("bb", "two\nlines", 'c "d"', 0, 4)]
    assert read.left_out == [5]


@pytest.mark.parametrize("place", ["the end of the file", "a later quote"])
def test_a_stray_quote_swallows_no_records(tmp_path, place):
    """It is an error where it begins: neither are records lost nor sentences joined."""
    rows = ["\tid\tsentence\tsentiment", *(f"{i}\tid{i}\tfine {i}\t3" for i in range(9))]
    rows[4] = '3\tid3\t"fine 3\t3'
    if place == "a later quote":
        rows[7] = '6\tid6\tfine 6"\t3'
    (tmp_path / "ids-sst-train.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"ids-sst-train\.csv:5: the quotes in the record that starts here do not match"
    ):
        read_examples(TASKS["sst5"], tmp_path, "train")


def test_empty_lines_count_between_records_and_belong_to_quoted_ones(tmp_path):
    text = '\tid\tsentence\tsentiment\n\n0\taa\t"one\n\ntwo"\t3\n\n1\tbb\tthree\t\n'
    (tmp_path / "ids-sst-train.csv").write_text(text, encoding="utf-8")
    read = read_examples(TASKS["sst5"], tmp_path, "train")
    assert read.rows == [Example("aa", "one\n\ntwo", None, 3, 5)] and read.left_out == [7]


@pytest.mark.parametrize("name, column", [("sst5", "4"), ("cfimdb", "1"), ("sts", "3.5")])
def test_the_other_tasks_of_the_course_are_read(tmp_path, name, column):
    task = TASKS[name]
    header = ["", "id", *task.text, task.label]
    write_rows(tmp_path / dict(task.files)["train"], [header, ["0", "aa", *("x",) * len(task.text), column]])
    (example,) = read_examples(task, tmp_path, "train").rows
    assert example.label == float(column) and example.id == "aa"
    write_rows(tmp_path / dict(task.files)["test"], [["0", *header[:-1]], ["1", "0.0", "bb", *("y",) * len(task.text)]])
    (example,) = read_examples(task, tmp_path, "test").rows
    assert (example.id, example.text, example.label) == ("bb", "y", None)


def cmu(folder, text: str, name: str = "sst-train.txt"):
    (folder / name).write_bytes(text.encode())
    return read_examples(TASKS["sst5"], folder, "test" if "test" in name else "train")


def test_a_line_of_cmus_files_is_a_label_a_bar_and_a_text(tmp_path):
    """Only the first bar counts, a line is one record even with quotes, and a missing label is reported."""
    read = cmu(tmp_path, '\ufeff3 ||| "a ||| b\tc\n\n0 ||| \n ||| no label\r\n 4 |||  D \u2028')
    assert read.path == tmp_path / "sst-train.txt" and read.left_out == [4]
    assert read.rows == [
        Example("0", '"a ||| b\tc', None, 3, 1),
        Example("1", "", None, 0, 3),
        Example("3", " D \u2028", None, 4, 5),
    ]


def test_cmus_test_labels_are_not_read(tmp_path):
    rows = cmu(tmp_path, "0 ||| one\n7 ||| two\n ||| three\n", "sst-test.txt").rows
    assert [(row.id, row.text, row.label) for row in rows] == [
        ("0", "one", None),
        ("1", "two", None),
        ("2", "three", None),
    ]


@pytest.mark.parametrize(
    "text, message",
    [
        ("1 ||| a\n2 |||b\n", r"sst-train.txt:2 lacks ' \|\|\| ' between label and text$"),
        ("1 ||| a\n\n5 ||| b\n", r"sst-train.txt:3: label '5' is not one of 0, 1, 2, 3, 4$"),
        ("", "sst-train.txt is empty$"),
        ("\n", "sst-train.txt has no rows$"),
    ],
)
def test_errors_in_cmus_files_name_file_and_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        cmu(tmp_path, text)


GOETTINGEN = {  # of M.Inf.2202: the names of the files and their columns
    "sst5": ("sst-sentiment", ["id", "sentence", "sentiment"], ["q1", "a film", "3"]),
    "quora": ("quora-paraphrase", ["id", "sentence1", "sentence2", "is_duplicate"], ["q2", "one", "two", "1.0"]),
    "sts": ("sts-similarity", ["id", "sentence1", "sentence2", "similarity"], ["q3", "one", "two", "2.5"]),
}


@pytest.mark.parametrize("name", GOETTINGEN)
def test_goettingens_files_are_read_where_they_are_found(name, tmp_path):
    stem, header, row = GOETTINGEN[name]
    write_rows(tmp_path / f"{stem}-train.csv", [header, row])
    write_rows(tmp_path / f"{stem}-test-student.csv", [header[:-1], row[:-1]])
    (example,) = read_examples(TASKS[name], tmp_path, "train").rows
    assert (example.id, example.text) == (row[0], row[1]) and example.label in (3, 1, 2.5)
    (example,) = read_examples(TASKS[name], tmp_path, "test").rows
    assert example.id == row[0] and example.label is None


@pytest.mark.parametrize("name", GOETTINGEN)
def test_goettingens_files_of_2025_are_separated_by_commas(name, tmp_path):
    """And Quora's labels are 0 and 1 there."""
    stem, header, row = GOETTINGEN[name]
    row = [row[0], 'with a comma, a "quote" and a\nline end', *row[2:]]
    row[-1] = row[-1].removesuffix(".0")
    with (tmp_path / f"{stem}-train.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, row])
    (example,) = read_examples(TASKS[name], tmp_path, "train").rows
    assert (example.id, example.text) == (row[0], row[1]) and example.label in (3, 1, 2.5)


def test_stanfords_files_come_first_and_an_error_names_both(tmp_path):
    with pytest.raises(
        InputError,
        match=r"neither \S*ids-sst-train.csv, nor \S*sst-sentiment-train.csv, nor \S*sst-train.txt exists; .*",
    ):
        read_examples(TASKS["sst5"], tmp_path, "train")
    (tmp_path / "sst-train.txt").write_bytes(b"1 ||| caf\xe9\n")
    with pytest.raises(InputError, match=r"sst-train.txt:1 is not UTF-8"):
        read_examples(TASKS["sst5"], tmp_path, "train")
    write_rows(tmp_path / "ids-sst-train.csv", [["", "id", "sentence", "sentiment"], ["0", "aa", "x", "2"]])
    assert read_examples(TASKS["sst5"], tmp_path, "train").rows == [Example("aa", "x", None, 2, 2)]
    (tmp_path / "cfimdb-dev.txt").write_text("1 ||| good\n")
    assert read_examples(TASKS["cfimdb"], tmp_path, "dev").rows == [Example("0", "good", None, 1, 1)]


def test_two_rows_of_a_test_file_with_one_id_are_refused_with_both_lines(tmp_path):
    """In a training file an id is never used."""
    rows = [["index", "sentence1", "sentence2", "label"], ["0", "a", "b", "entailment"], ["0", "c", "d", "entailment"]]
    write_rows(tmp_path / "RTE" / "train.tsv", rows)
    assert [row.id for row in read_examples(TASKS["rte"], tmp_path, "train").rows] == ["0", "0"]
    path = write_rows(tmp_path / "RTE" / "test.tsv", [row[:3] for row in rows])
    with pytest.raises(InputError) as error:
        read_examples(TASKS["rte"], tmp_path, "test")
    assert str(error.value) == f"{path}:3: the id '0' appears twice, first in line 2"

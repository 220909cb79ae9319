"""The checker accepts good files, written by hand, and names each kind of damage."""

from pathlib import Path

import pytest
from support.factories import write_rows
from support.prediction_files import GOOD, LEADERBOARD, write_cs224n, write_leaderboard

from minbert.errors import InputError
from minbert.submission import check_predictions

COURSE = [
    ("finetune-sst-test-out.csv", "Predicted_Sentiment", ["4"] * 2210),
    ("pretrain-cfimdb-test-out.csv", "Predicted_Sentiment", ["1"] * 488),
    ("sst-dev-output.csv", "Predicted_Sentiment", ["0"] * 1101),
    ("para-dev-output.csv", "Predicted_Is_Paraphrase", ["0.0", "1.0"] * 10107),
    ("para-dev-out.csv", "Predicted_Is_Paraphrase", ["0.0", "1.0"] * 10106),  # two records have no label
    ("para-test-output.csv", "Predicted_Is_Paraphrase", ["1.0"] * 5),  # the size is not public
    ("sts-test-output.csv", "Predicted_Similiary", ["-0.5", "7.25", "1e-05"] * 575),
]


def test_the_leaderboards_files_are_accepted(tmp_path):
    report = check_predictions(write_leaderboard(tmp_path), complete=True)
    assert report.problems == report.notes == [] and len(report.files) == 11
    assert str(report) == "11 files: a grader would accept this"


@pytest.mark.parametrize("name, column, answers", COURSE)
def test_cs224ns_files_are_accepted(tmp_path, name, column, answers):
    report = check_predictions(write_cs224n(tmp_path, name, column, answers))
    assert report.problems == [] and [path.name for path in report.files] == [name]
    unpublished = any("--data" in note for note in report.notes)
    assert unpublished == (name == "para-test-output.csv")


def test_cmus_files_are_accepted_and_other_files_are_ignored(tmp_path):
    (tmp_path / "sst-test-output.txt").write_text("2 ||| a film .\n" * 2210)
    (tmp_path / "cfimdb-test-output.txt").write_text("0 ||| a ||| b\n" * 488)
    (tmp_path / "classifier.py").write_text("a program")
    (tmp_path / ".RTE.tsv").write_text("a hidden file")
    report = check_predictions(tmp_path)
    assert report.problems == [] and len(report.files) == 2
    lacks = f"{tmp_path} lacks sst-dev-output.txt, cfimdb-dev-output.txt"
    assert report.notes == [lacks] and check_predictions(tmp_path, complete=True).problems == [lacks]


def test_complete_requires_only_the_files_that_are_handed_in_together(tmp_path):
    """CS224N's first program writes four files with the option finetune, and four others with pretrain."""
    report = check_predictions(write_cs224n(tmp_path, *COURSE[0]), complete=True)
    others = "finetune-sst-dev-out.csv, finetune-cfimdb-dev-out.csv, finetune-cfimdb-test-out.csv"
    assert report.problems == [f"{tmp_path} lacks {others}"]


@pytest.mark.parametrize("place", [".", "test", "predictions", "predictions/test"])
def test_the_files_are_found_in_a_run_folder(tmp_path, place):
    write_leaderboard(tmp_path / place, "RTE")
    assert check_predictions(tmp_path).files == [tmp_path / place / "RTE.tsv"]


def test_a_run_of_a_course_and_of_glue_has_its_files_in_two_folders(tmp_path):
    write_cs224n(tmp_path / "predictions", *COURSE[2])
    damaged = write_leaderboard(tmp_path / "predictions" / "test", "RTE") / "RTE.tsv"
    assert check_predictions(tmp_path).problems == []
    damaged.write_text(damaged.read_text().replace("2999\tentailment", "2999\tno"))
    report = check_predictions(tmp_path)
    assert [path.name for path in report.files] == ["sst-dev-output.csv", "RTE.tsv"]
    assert report.problems == [f"{damaged}:3001: label 'no' is not one of entailment, not_entailment"]


def test_a_folder_without_prediction_files_is_rejected(tmp_path):
    assert check_predictions(tmp_path).problems == [f"{tmp_path} has no prediction file that a grader knows"]


def find_problems(tmp_path: Path, data: Path | None, name: str, content: str | bytes) -> list[str]:
    """The problems of one file, without the folder's name."""
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    report = check_predictions(folder, data)
    return [problem.replace(f"{folder}/", "").replace(str(folder), ".") for problem in report.problems]


def assert_problems_are(problems: list[str], beginnings: list[str]) -> None:
    assert len(problems) == len(beginnings), problems
    for problem, beginning in zip(problems, beginnings):
        assert problem.startswith(beginning)


@pytest.mark.parametrize("name", GOOD)
def test_files_with_the_rows_of_the_data_are_accepted(tmp_path, data, name):
    assert find_problems(tmp_path, data, name, GOOD[name]) == []


# what -> file, good text, damaged text, how the problems begin
DAMAGED = {
    "no header": (
        "RTE.tsv", "index\tprediction\n", "",
        ["RTE.tsv:1: the header is '0\\tentailment' instead of 'index\\tprediction'"],
    ),
    "another header": (
        "RTE.tsv", "index", "id",
        ["RTE.tsv:1: the header is 'id\\tprediction' instead of 'index\\tprediction'"],
    ),
    "no tab": (
        "RTE.tsv", "1\tn", "1 n",
        ["RTE.tsv:3: '1 not_entailment' is not of the form", "RTE.tsv lacks 1 of 3 examples: 1"],
    ),
    "no such label": (
        "RTE.tsv", "not_ent", "non_ent",
        ["RTE.tsv:3: label 'non_entailment' is not one of entailment, not_entailment"],
    ),
    "a third column": (
        "RTE.tsv", "not_entailment", "entailment\t1",
        ["RTE.tsv:3: label 'entailment\\t1' is not one of entailment, not_entailment"],
    ),
    "a repeated id": (
        "RTE.tsv", "2\t", "1\t",
        ["RTE.tsv:4: example '1' is repeated", "RTE.tsv lacks 1 of 3 examples: 2"],
    ),
    "an unknown id": (
        "RTE.tsv", "2\t", "3\t",
        ["RTE.tsv:4: example '3' is not in test", "RTE.tsv lacks 1 of 3 examples: 2"],
    ),
    "no number as id": (
        "RTE.tsv", "2\t", "two\t",
        ["RTE.tsv:4: example 'two' is not in test", "RTE.tsv lacks 1 of 3 examples: 2"],
    ),
    "a row too many": ("RTE.tsv", "2\t", "2\tentailment\n3\t", ["RTE.tsv:5: example '3' is not in test"]),
    "a row too few": ("RTE.tsv", "2\tentailment\n", "", ["RTE.tsv lacks 1 of 3 examples: 2"]),
    "two rows swapped": (
        "RTE.tsv", "0\tentailment\n1\tnot_entailment\n", "1\tentailment\n0\tentailment\n",
        ["RTE.tsv:2: test has '0' here, not '1'"],
    ),
    "an empty line": ("RTE.tsv", "\n2", "\n\n2", ["RTE.tsv:4: '' is not of the form"]),
    "a byte order mark": ("RTE.tsv", "index", "\ufeffindex", ["RTE.tsv:1: the file starts with a byte order mark"]),
    "a score above 5": ("STS-B.tsv", "2.75", "5.001", ["STS-B.tsv:4: score 5.001 is not between 0 and 5"]),
    "a score below 0": ("STS-B.tsv", "2.75", "-0.1", ["STS-B.tsv:4: score -0.1 is not between 0 and 5"]),
    "a word as score": ("STS-B.tsv", "2.75", "high", ["STS-B.tsv:4: score 'high' is not a number"]),
    "not a number": ("sts-test-output.csv", "1.5", "nan", ["sts-test-output.csv:2: score 'nan' is not a number"]),
    "infinity": ("sts-test-output.csv", "1.5", "inf", ["sts-test-output.csv:2: score 'inf' is not a number"]),
    "no blanks": (
        "sts-test-output.csv", "2 , 1.5 ", "2,1.5",
        ["sts-test-output.csv:2: '0000000000000000000000002,1.5' is not of the form '{key} , {value} '",
         "sts-test-output.csv lacks 1 of 3 examples: 0000000000000000000000002"],
    ),
    "correct English": (
        "sts-test-output.csv", "iary", "arity",
        ["sts-test-output.csv:1: the header is 'id \\t Predicted_Similarity ' instead of"],
    ),
    "another sentence": (
        "sst-dev-output.txt", "two", "Two",
        ["sst-dev-output.txt:2: example 'Two' is not in dev", "sst-dev-output.txt lacks 1 of 3 examples: two"],
    ),
    "a sentence left out": (
        "sst-dev-output.txt", "0 ||| one\n", "", ["sst-dev-output.txt lacks 1 of 3 examples: one"],
    ),
    "two sentences swapped": (
        "sst-dev-output.txt", "4 ||| two\n2 ||| three\n", "2 ||| three\n4 ||| two\n",
        ["sst-dev-output.txt:2: dev has 'two' here, not 'three'"],
    ),
    "CMU's form of 2021": (
        "sst-dev-output.txt", "4 ||| two", "two ||| 1 ||| 4",
        ["sst-dev-output.txt:2: label 'two' is not one of 0, 1, 2, 3, 4",
         "sst-dev-output.txt:2: example '1 ||| 4' is not in dev", "sst-dev-output.txt lacks 1 of 3 examples: two"],
    ),
    "a bar too short": (
        "sst-dev-output.txt", "4 |||", "4 ||",
        ["sst-dev-output.txt:2: '4 || two' is not of the form '{value} ||| {key}'",
         "sst-dev-output.txt lacks 1 of 3 examples: two"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_each_damage_is_named_with_its_line(tmp_path, data, damage):
    name, good, damaged, beginnings = DAMAGED[damage]
    assert good in GOOD[name]
    assert_problems_are(find_problems(tmp_path, data, name, GOOD[name].replace(good, damaged, 1)), beginnings)


@pytest.mark.parametrize(
    "name, content, beginnings",
    [
        ("RTE.tsv", "", ["RTE.tsv is empty"]),
        ("RTE.tsv", "index\tprediction\n0\té\n".encode("latin-1"), ["RTE.tsv:2 is not UTF-8"]),
        ("rte.tsv", GOOD["RTE.tsv"], ["rte.tsv: no grader knows this file name; did you mean RTE.tsv?",
                                      ". has no prediction file that a grader knows"]),
        ("notes.tsv", "", ["notes.tsv: no grader knows this file name", ". has no prediction file"]),
        ("RTE.tsv", GOOD["RTE.tsv"], ["RTE.tsv lacks 2997 of 3000 examples: 3, 4, 5, ..."]),
        ("sts-test-output.csv", "id \t Predicted_Similiary \nA0 , 1 \n",
         ["sts-test-output.csv:2: 'A0 , 1 ' is not of the form '{key} , {value} ' with an id [0-9a-f]{25}",
          "sts-test-output.csv has 1 rows instead of 1725"]),
        ("para-test-output.csv", f"id \t Predicted_Is_Paraphrase \n{'a' * 25} , 1 \n{'a' * 25} , 1.0 \n",
         ["para-test-output.csv:2: label '1' is not one of 0.0, 1.0",
          f"para-test-output.csv:3: example '{'a' * 25}' is repeated"]),
        ("para-dev-output.csv", "id \t Predicted_Is_Paraphrase \n",
         ["para-dev-output.csv has 0 rows instead of 20214"]),
        ("cfimdb-dev-output.txt", "2 ||| a\n", ["cfimdb-dev-output.txt:1: label '2' is not one of 0, 1",
                                                "cfimdb-dev-output.txt has 1 rows instead of 245"]),
    ],
)  # fmt: skip
def test_damage_is_named_without_the_data(tmp_path, name, content, beginnings):
    assert_problems_are(find_problems(tmp_path, None, name, content), beginnings)


def test_a_sentence_may_appear_as_often_as_in_the_data(tmp_path):
    write_rows(tmp_path / "data" / "sst-dev.txt", [["3 ||| a"], ["1 ||| a"], ["0 ||| b"]])
    good, too_often = "0 ||| a\n4 ||| a\n2 ||| b\n", "0 ||| a\n4 ||| b\n2 ||| b\n"
    assert find_problems(tmp_path, tmp_path / "data", "sst-dev-output.txt", good) == []
    (tmp_path / "in" / "sst-dev-output.txt").write_text(too_often)
    problems = [
        problem.rpartition("/")[2] for problem in check_predictions(tmp_path / "in", tmp_path / "data").problems
    ]
    assert problems == [
        "sst-dev-output.txt:3: example 'b' is repeated", "sst-dev-output.txt lacks 1 of 3 examples: a"
    ]  # fmt: skip


def test_a_task_that_the_data_folder_lacks_is_compared_with_the_published_rows(tmp_path, data):
    folder = write_leaderboard(tmp_path / "in", "WNLI")
    report = check_predictions(folder, data)
    assert report.problems == [] and "WNLI/test.tsv does not exist" in report.notes[0]


def test_broken_data_is_an_error_and_not_a_problem_of_the_predictions(tmp_path, data):
    (data / "RTE" / "test.tsv").write_text("")
    with pytest.raises(InputError, match=r"RTE/test\.tsv is empty"):
        find_problems(tmp_path, data, "RTE.tsv", GOOD["RTE.tsv"])


def test_ten_problems_of_a_file_are_shown_and_the_others_are_counted(tmp_path):
    write_cs224n(tmp_path, "sts-test-output.csv", "Predicted_Similiary", ["x"] * 1725)
    problems = check_predictions(tmp_path).problems
    assert len(problems) == 11 and problems[-1].endswith("sts-test-output.csv: 1715 more problems")


@pytest.mark.parametrize("name", LEADERBOARD)
def test_every_file_of_the_leaderboard_must_have_all_its_rows(tmp_path, name):
    path = write_leaderboard(tmp_path, name) / f"{name}.tsv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    size = LEADERBOARD[name][0]
    assert check_predictions(tmp_path).problems == [f"{path} lacks 1 of {size} examples: {size - 1}"]


def test_ids_of_the_users_own_data_can_have_any_form(tmp_path):
    """Without --data, an id must look like those of the published file."""
    data, folder = tmp_path / "own", tmp_path / "predictions"
    write_rows(data / "ids-sst-dev.csv", [["", "id", "sentence", "sentiment"], ["0", "r17", "a film", "3"]])
    folder.mkdir()
    (folder / "sst-dev-output.csv").write_text("id \t Predicted_Sentiment \nr17 , 4 \n")
    assert check_predictions(folder, data).problems == []
    assert "is not of the form" in check_predictions(folder).problems[0]

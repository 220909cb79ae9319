"""The checker on files written by hand: good ones pass, each kind of damage is named; and the leaderboard's zip."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.factories import write_rows

from minbert import submission
from minbert.submission.check import check

ROOT = Path(__file__).resolve().parents[2]

# Rows of the leaderboard's files and one answer that each takes, from its own list of line counts.
LEADERBOARD = {
    "AX": (1104, "neutral"), "CoLA": (1063, "1"), "MNLI-m": (9796, "contradiction"), "MNLI-mm": (9847, "entailment"),
    "MRPC": (1725, "0"), "QNLI": (5463, "not_entailment"), "QQP": (390965, "1"), "RTE": (3000, "entailment"),
    "SST-2": (1821, "0"), "STS-B": (1379, "4.25"), "WNLI": (146, "1"),
}  # fmt: skip


def glue(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or LEADERBOARD:
        size, answer = LEADERBOARD[name]
        rows = "".join(f"{i}\t{answer}\n" for i in range(size))
        (folder / f"{name}.tsv").write_text("index\tprediction\n" + rows)
    return folder


def stanford(folder: Path, name: str, column: str, answers: list[str]) -> Path:
    folder.mkdir(exist_ok=True)
    rows = "".join(f"{i:025x} , {answer} \n" for i, answer in enumerate(answers))
    (folder / name).write_text(f"id \t {column} \n" + rows)
    return folder


def test_good_files_of_the_leaderboard(tmp_path):
    report = check(glue(tmp_path), complete=True)
    assert report.problems == report.notes == [] and len(report.files) == 11


COURSE = [
    ("finetune-sst-test-out.csv", "Predicted_Sentiment", ["4"] * 2210),
    ("pretrain-cfimdb-test-out.csv", "Predicted_Sentiment", ["1"] * 488),
    ("sst-dev-output.csv", "Predicted_Sentiment", ["0"] * 1101),
    ("para-dev-output.csv", "Predicted_Is_Paraphrase", ["0.0", "1.0"] * 10107),
    ("para-dev-out.csv", "Predicted_Is_Paraphrase", ["0.0", "1.0"] * 10106),  # two records lost their label
    ("para-test-output.csv", "Predicted_Is_Paraphrase", ["1.0"] * 5),  # the size is not public
    ("sts-test-output.csv", "Predicted_Similiary", ["-0.5", "7.25", "1e-05"] * 575),
]


@pytest.mark.parametrize("name, column, answers", COURSE)
def test_good_files_of_cs224n(tmp_path, name, column, answers):
    report = check(stanford(tmp_path, name, column, answers))
    assert report.problems == [] and [path.name for path in report.files] == [name]
    assert any("--data would tell" in note for note in report.notes) == (name == "para-test-output.csv")


def test_what_goes_together_is_of_one_option(tmp_path):
    report = check(stanford(tmp_path, *COURSE[0]), complete=True)
    others = "finetune-sst-dev-out.csv, finetune-cfimdb-dev-out.csv, finetune-cfimdb-test-out.csv"
    assert report.problems == [f"{tmp_path} lacks {others}"]


def test_good_files_of_cmu(tmp_path):
    (tmp_path / "sst-test-output.txt").write_text("2 ||| a film .\n" * 2210)
    (tmp_path / "cfimdb-test-output.txt").write_text("0 ||| a ||| b\n" * 488)
    (tmp_path / "classifier.py").write_text("what else is handed in is not looked at")
    report = check(tmp_path)
    assert report.problems == []
    lacks = f"{tmp_path} lacks sst-dev-output.txt, cfimdb-dev-output.txt"
    assert report.notes == [lacks] and check(tmp_path, complete=True).problems == [lacks]


@pytest.fixture
def data(tmp_path) -> Path:
    """Three test rows for each of four tasks."""
    folder = tmp_path / "data"
    pairs = [[str(i), f"s{i}", f"t{i}"] for i in range(3)]
    write_rows(folder / "RTE" / "test.tsv", [["index", "sentence1", "sentence2"], *pairs])
    write_rows(folder / "STS-B" / "test.tsv", [["index", "sentence1", "sentence2"], *pairs])
    ids = [[str(i), f"{i:025x}", f"s{i}", f"t{i}"] for i in range(3)]
    write_rows(folder / "sts-test-student.csv", [["", "id", "sentence1", "sentence2"], *ids])
    write_rows(folder / "sst-dev.txt", [["3 ||| One "], ["1 ||| two"], ["0 ||| Three"]])
    return folder


GOOD = {
    "RTE.tsv": "index\tprediction\n0\tentailment\n1\tnot_entailment\n2\tentailment\n",
    "STS-B.tsv": "index\tprediction\n0\t0.0\n1\t5\n2\t2.75\n",
    "sts-test-output.csv": "id \t Predicted_Similiary \n"
    "0000000000000000000000002 , 1.5 \n0000000000000000000000000 , 2 \n0000000000000000000000001 , -9 \n",
    "sst-dev-output.txt": "0 ||| one\n4 ||| two\n2 ||| three\n",
}


def examine(tmp_path, data, name: str, content: str | bytes) -> list[str]:
    """What check says of one file, without the folder's name."""
    folder = tmp_path / "handed-in"
    folder.mkdir()
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return [problem.replace(f"{folder}/", "").replace(str(folder), ".") for problem in check(folder, data).problems]


@pytest.mark.parametrize("name", GOOD)
def test_good_files_beside_the_data(tmp_path, data, name):
    assert examine(tmp_path, data, name, GOOD[name]) == []


NO_ROW = "is not of the form"
DAMAGED = {
    "no header": ("RTE.tsv", "index\tprediction\n", "", ["RTE.tsv:1: the header is '0\\tentailment' instead of"]),
    "other header": ("RTE.tsv", "index", "id", ["RTE.tsv:1: the header is 'id\\tprediction' instead of 'index\\t"]),
    "no tab": ("RTE.tsv", "1\tn", "1 n", [f"RTE.tsv:3: '1 not_entailment' {NO_ROW}", "RTE.tsv lacks 1 of 3 ids: 1"]),
    "no such label": ("RTE.tsv", "not_ent", "non_ent", ["RTE.tsv:3: label 'non_entailment' is none of entailment"]),
    "another column": ("RTE.tsv", "not_entailment", "entailment\t1", ["RTE.tsv:3: label 'entailment\\t1' is none of"]),
    "id twice": ("RTE.tsv", "2\t", "1\t", ["RTE.tsv:4: id 1 is on line 3 already", "RTE.tsv lacks 1 of 3 ids: 2"]),
    "id unknown": ("RTE.tsv", "2\t", "3\t", ["RTE.tsv:4: test has no id '3'", "RTE.tsv lacks 1 of 3 ids: 2"]),
    "too many": ("RTE.tsv", "2\t", "2\tentailment\n3\t", ["RTE.tsv:5: test has no id '3'"]),
    "too few": ("RTE.tsv", "2\tentailment\n", "", ["RTE.tsv lacks 1 of 3 ids: 2"]),
    "out of order": ("RTE.tsv", "0\tentailment\n1\tnot_entailment\n", "1\tentailment\n0\tentailment\n",
                     ["RTE.tsv:2: id 1 stands where 0 belongs"]),
    "an empty line": ("RTE.tsv", "\n2", "\n\n2", [f"RTE.tsv:4: '' {NO_ROW}"]),
    "byte order mark": ("RTE.tsv", "index", "\ufeffindex", ["RTE.tsv:1: a byte order mark stands before"]),
    "above 5": ("STS-B.tsv", "2.75", "5.001", ["STS-B.tsv:4: score 5.001 lies outside 0 to 5"]),
    "below 0": ("STS-B.tsv", "2.75", "-0.1", ["STS-B.tsv:4: score -0.1 lies outside 0 to 5"]),
    "no number": ("STS-B.tsv", "2.75", "high", ["STS-B.tsv:4: score 'high' is not a number"]),
    "not a number": ("sts-test-output.csv", "1.5", "nan", ["sts-test-output.csv:2: score 'nan' is not a number"]),
    "infinite": ("sts-test-output.csv", "1.5", "inf", ["sts-test-output.csv:2: score 'inf' is not a number"]),
    "no blanks": ("sts-test-output.csv", "2 , 1.5 ", "2,1.5", ["sts-test-output.csv:2: '0000000000000000000000002,1.5'",
                                                               "sts-test-output.csv lacks 1 of 3 ids: 00000"]),
    "correct English": ("sts-test-output.csv", "iary", "arity", ["sts-test-output.csv:1: the header is 'id \\t "]),
    "other sentence": ("sst-dev-output.txt", "two", "Two", ["sst-dev-output.txt:2: dev has 'two' here, not 'Two'"]),
    "one left out": ("sst-dev-output.txt", "0 ||| one\n", "", ["sst-dev-output.txt:1: dev has 'one' here, not 'two'",
                                                               "sst-dev-output.txt has 2 rows instead of 3"]),
    "the form of 2021": ("sst-dev-output.txt", "4 ||| two", "two ||| 1 ||| 4",
                         ["sst-dev-output.txt:2: label 'two' is none of 0, 1", "sst-dev-output.txt:2: dev has 'two'"]),
    "no bar": ("sst-dev-output.txt", "4 |||", "4 ||", [f"sst-dev-output.txt:2: '4 || two' {NO_ROW}"]),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files(tmp_path, data, damage):
    name, old, new, reasons = DAMAGED[damage]
    assert old in GOOD[name]
    problems = examine(tmp_path, data, name, GOOD[name].replace(old, new, 1))
    assert len(problems) == len(reasons)
    assert all(reason in problem for problem, reason in zip(problems, reasons)), problems


@pytest.mark.parametrize(
    "name, content, reasons",
    [
        ("RTE.tsv", "", ["RTE.tsv is empty"]),
        ("RTE.tsv", "index\tprediction\n0\té\n".encode("latin-1"), ["RTE.tsv:2 is not UTF-8"]),
        ("rte.tsv", GOOD["RTE.tsv"], ["rte.tsv: no grader knows this name; is it RTE.tsv?", ". has no file of pred"]),
        ("sts-test-output.csv", "id \t Predicted_Similiary \nA0 , 1 \n",
         ["sts-test-output.csv:2: 'A0' is no id of the form [0-9a-f]{25}", "csv has 1 rows instead of 1725"]),
        ("para-test-output.csv", f"id \t Predicted_Is_Paraphrase \n{'a' * 25} , 1 \n{'a' * 25} , 1.0 \n",
         ["para-test-output.csv:2: label '1' is none of 0.0, 1.0", f"csv:3: id {'a' * 25} is on line 2 already"]),
        ("para-dev-output.csv", "id \t Predicted_Is_Paraphrase \n", ["csv has 0 rows instead of 20214"]),
        ("cfimdb-dev-output.txt", "2 ||| a\n", ["label '2' is none of 0, 1", "has 1 rows instead of 245"]),
    ],
)  # fmt: skip
def test_damaged_files_without_the_data(tmp_path, name, content, reasons):
    problems = examine(tmp_path, None, name, content)
    assert len(problems) == len(reasons)
    assert all(reason in problem for problem, reason in zip(problems, reasons)), problems


def test_what_is_not_in_the_data_is_compared_with_the_published_file(tmp_path, data):
    report = check(glue(tmp_path / "in", "WNLI"), data)
    assert report.problems == [] and "WNLI/test.tsv does not exist" in report.notes[0]


def test_many_problems_are_counted(tmp_path):
    stanford(tmp_path, "sts-test-output.csv", "Predicted_Similiary", ["x"] * 1725)
    problems = check(tmp_path).problems
    assert len(problems) == 11 and problems[-1].endswith("sts-test-output.csv: 1715 more problems")


def zipped(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o644}
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_zip_fills_what_is_missing_and_says_so(tmp_path, capsys):
    folder = glue(tmp_path / "in", *(name for name in LEADERBOARD if name not in ("AX", "WNLI", "STS-B")))
    assert submission.main(["zip", str(folder), "--out", str(tmp_path / "a.zip")]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said == [
        f"STS-B.tsv is not in {folder}: filled with 0.0 for every row",
        f"WNLI.tsv is not in {folder}: filled with 0 for every row",
        f"AX.tsv is not in {folder}: filled with entailment for every row",
        str(tmp_path / "a.zip"),
    ]
    content = zipped(tmp_path / "a.zip")
    assert list(content) == sorted(f"{name}.tsv" for name in LEADERBOARD)
    assert content["MNLI-mm.tsv"] == (folder / "MNLI-mm.tsv").read_text()
    assert content["MNLI-m.tsv"] == (folder / "MNLI-m.tsv").read_text() != content["MNLI-mm.tsv"]
    assert content["WNLI.tsv"] == "index\tprediction\n" + "".join(f"{i}\t0\n" for i in range(146))
    assert content["STS-B.tsv"].startswith("index\tprediction\n0\t0.0\n1\t0.0\n")
    assert check_zip(tmp_path, content) == []
    submission.main(["zip", str(folder), "--out", str(tmp_path / "b.zip")])
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()


def check_zip(tmp_path, content: dict[str, str]) -> list[str]:
    folder = tmp_path / "unpacked"
    folder.mkdir()
    for name, text in content.items():
        (folder / name).write_text(text)
    return check(folder, complete=True).problems


def test_zip_refuses_with_the_reasons_and_never_overwrites(tmp_path, capsys, data):
    folder, out = glue(tmp_path / "in", "RTE"), tmp_path / "a.zip"
    assert submission.main(["zip", str(folder), "--data", str(data), "--out", str(out)]) == 1
    assert "RTE.tsv:5: test has no id '3'" in capsys.readouterr().out and not out.exists()
    (folder / "RTE.tsv").write_text(GOOD["RTE.tsv"])
    assert submission.main(["zip", str(folder), "--data", str(data), "--out", str(out)]) == 0
    assert zipped(out)["STS-B.tsv"].count("\n") == 4  # as many rows as the data
    before = out.read_bytes()
    assert submission.main(["zip", str(folder), "--data", str(data), "--out", str(out)]) == 2
    assert "exists" in capsys.readouterr().err and out.read_bytes() == before
    (folder / "RTE.tsv").rename(folder / "RTE")
    (folder / "sst-dev-output.txt").write_text(GOOD["sst-dev-output.txt"])
    assert submission.main(["zip", str(folder), "--data", str(data), "--out", str(tmp_path / "b.zip")]) == 2
    assert "none of the GLUE leaderboard's files" in capsys.readouterr().err
    assert not list(tmp_path.glob("*b.zip*"))


def test_exit_status_and_what_is_printed(tmp_path, capsys, data):
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "RTE.tsv").write_text(GOOD["RTE.tsv"])
    command = [sys.executable, "-m", "minbert.submission", "check", folder, "--data", data]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0 and done.stdout.endswith("1 file: a grader would accept this\n"), done.stderr
    assert "note: " in done.stdout and "lacks CoLA.tsv, SST-2.tsv" in done.stdout
    assert submission.main(["check", str(folder), "--data", str(data), "--complete"]) == 1
    assert submission.main(["check", str(folder)]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "1 file: a grader would reject this"


@pytest.mark.parametrize(
    "argv, message",
    [
        ([], "arguments are required"),
        (["pack", "x"], "invalid choice: 'pack'"),
        (["check"], "required: DIR"),
        (["check", "nowhere"], "nowhere is not a folder"),
        (["check", ".", "--data", "nowhere"], "nowhere is not a folder"),
        (["check", ".", "--out", "x"], "unrecognized arguments: --out x"),
        (["zip", "nowhere"], "nowhere is not a folder"),
    ],
)
def test_bad_usage(tmp_path, monkeypatch, capsys, argv, message):
    monkeypatch.chdir(tmp_path)
    assert submission.main(argv) == 2
    error = capsys.readouterr().err
    assert message in error and error.startswith("submission: ") and error.count("\n") == 1

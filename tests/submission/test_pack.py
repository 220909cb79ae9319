"""The leaderboard's zip: complete, readable, the same bytes for the same predictions, and never half written."""

import os
import zipfile
from pathlib import Path

import pytest
from support.prediction_files import GOOD, LEADERBOARD, write_leaderboard

from minbert.errors import InputError
from minbert.submission import check_predictions, pack_predictions


def read_zip(path: Path) -> dict[str, str]:
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert {info.external_attr >> 16 for info in archive.infolist()} == {0o644}
        return {name: archive.read(name).decode() for name in archive.namelist()}


def test_missing_files_are_filled_and_named(tmp_path):
    folder = write_leaderboard(tmp_path / "in", *(name for name in LEADERBOARD if name not in ("AX", "WNLI", "STS-B")))
    assert pack_predictions(folder, tmp_path / "a.zip") == [
        f"STS-B.tsv is not in {folder}: filled with 0.0 for every row",
        f"WNLI.tsv is not in {folder}: filled with 0 for every row",
        f"AX.tsv is not in {folder}: filled with entailment for every row",
    ]
    contents = read_zip(tmp_path / "a.zip")
    assert list(contents) == sorted(f"{name}.tsv" for name in LEADERBOARD)
    assert contents["MNLI-mm.tsv"] == (folder / "MNLI-mm.tsv").read_text()
    assert contents["MNLI-m.tsv"] == (folder / "MNLI-m.tsv").read_text() != contents["MNLI-mm.tsv"]
    assert contents["WNLI.tsv"] == "index\tprediction\n" + "".join(f"{i}\t0\n" for i in range(146))
    assert contents["STS-B.tsv"].startswith("index\tprediction\n0\t0.0\n1\t0.0\n")
    for name, text in contents.items():
        (folder / name).write_text(text)
    assert check_predictions(folder, complete=True).problems == []


def test_the_same_predictions_give_the_same_bytes(tmp_path, data):
    folder = write_leaderboard(tmp_path / "in", "RTE", "AX")
    pack_predictions(folder, tmp_path / "a.zip", data)
    os.utime(folder / "RTE.tsv", (0, 0))
    pack_predictions(folder, tmp_path / "b.zip", data)
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert {info.date_time[0] for info in archive.infolist()} == {1980}


def test_filled_files_have_the_rows_of_the_data(tmp_path, data):
    (tmp_path / "RTE.tsv").write_text(GOOD["RTE.tsv"])
    pack_predictions(tmp_path, tmp_path / "a.zip", data)
    assert read_zip(tmp_path / "a.zip")["STS-B.tsv"] == "index\tprediction\n0\t0.0\n1\t0.0\n2\t0.0\n"


def test_a_run_folder_is_packed_from_its_test_predictions(tmp_path, data):
    write_leaderboard(tmp_path / "predictions" / "test", "RTE")
    (tmp_path / "predictions" / "dev").mkdir()
    (tmp_path / "predictions" / "dev" / "RTE.tsv").write_text("dev")
    pack_predictions(tmp_path, tmp_path / "a.zip", data)
    assert read_zip(tmp_path / "a.zip")["RTE.tsv"].count("\n") == 3001


def test_an_existing_file_is_not_overwritten(tmp_path):
    folder = write_leaderboard(tmp_path / "in", "RTE")
    (tmp_path / "a.zip").write_text("important")
    with pytest.raises(InputError, match="exists: delete it, or name another file with --out"):
        pack_predictions(folder, tmp_path / "a.zip")
    assert (tmp_path / "a.zip").read_text() == "important"


@pytest.mark.parametrize(
    "names, message",
    [
        (["notes.txt"], "no prediction file that a grader knows"),
        (["RTE.tsv", "sst-dev-output.txt"], "files of the GLUE leaderboard and of a course: zip them from two folders"),
        (["test/RTE.tsv", "sst-dev-output.txt"], "files of the GLUE leaderboard and of a course"),
    ],
)
def test_a_folder_that_no_grader_takes_as_one_zip_is_refused(tmp_path, names, message):
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(GOOD.get(name, ""))
    with pytest.raises(InputError, match=message):
        pack_predictions(tmp_path, tmp_path / "a.zip")
    assert not list(tmp_path.glob("*a.zip*"))


@pytest.mark.parametrize(
    "place, name, member, missing",
    [
        ("", "sst-dev-output.txt", "sst-dev-output.txt", "cfimdb-test-output.txt"),  # CMU's
        ("predictions", "sst-test-output.csv", "predictions/sst-test-output.csv", "para-dev-output.csv"),  # CS224N's
        ("predictions", "pretrain-sst-dev-out.csv", "predictions/pretrain-sst-dev-out.csv",
         "pretrain-sst-test-out.csv"),
        ("predictions/bert", "sts-similarity-dev-output.csv", "predictions/bert/sts-similarity-dev-output.csv",
         "quora-paraphrase-test-output.csv"),  # Göttingen's
    ],
)  # fmt: skip
def test_a_courses_files_lie_in_the_zip_where_its_own_program_writes_them(tmp_path, place, name, member, missing):
    (tmp_path / "run" / place).mkdir(parents=True)
    (tmp_path / "run" / place / name).write_text("the predictions")
    notes = pack_predictions(tmp_path / "run", tmp_path / "a.zip")
    assert read_zip(tmp_path / "a.zip") == {member: "the predictions"}
    assert f"{missing} is not in {tmp_path / 'run' / place}: left out" in notes
    assert not any(name in note.split()[0] for note in notes)


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    folder = write_leaderboard(tmp_path / "in", "RTE")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(zipfile.ZipFile, "writestr", fail)
    with pytest.raises(OSError, match="disk full"):
        pack_predictions(folder, tmp_path / "a.zip")
    assert not list(tmp_path.glob("*a.zip*"))

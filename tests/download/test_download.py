"""The published files of tasks, fetched from the loopback: whole in their places, or not at all."""

import errno
import io
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from support.web import serve

from minbert import download
from minbert.data.tasks import GLUE, ROWS, TASKS
from minbert.download import fetch


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSE", 0)
    with serve() as handler:
        yield handler


def zipped(members: dict[str, str]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:  # stored, so that a byte of a text can be found and changed
        for name, text in members.items():
            archive.writestr(name, text)
    return file.getvalue()


def rte(*labels: str) -> str:
    rows = [f"{i}\ta sentence\tanother\t{label}" for i, label in enumerate(labels)]
    return "\n".join(["index\tsentence1\tsentence2\tlabel", *rows]) + "\n"


RTE = {
    "RTE/train.tsv": rte("entailment", "not_entailment", "entailment"),
    "RTE/dev.tsv": rte("entailment", "not_entailment"),
    "RTE/test.tsv": "index\tsentence1\tsentence2\n0\ta\tb\n",
}


@pytest.fixture
def archive(web, monkeypatch):
    """The server, with an archive of RTE in which there is more than the three files."""
    monkeypatch.setitem(ROWS, "rte", {"train": 3, "dev": 2, "test": 1})
    web.files["RTE.zip"] = zipped({"../evil.tsv": "x", **RTE, "RTE/original/train.tsv": "x"})
    return web


def run(web, to: Path, *tasks: str) -> int:
    return download.main([*tasks, "--to", str(to), "--from", f"{web.url}/"])


def tree(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


def one_line(capsys) -> str:
    (line,) = capsys.readouterr().err.splitlines()
    return line


def test_an_archive_gives_its_three_files_and_a_second_call_fetches_nothing(archive, tmp_path, capsys):
    assert run(archive, tmp_path / "new" / "glue", "rte") == 0
    assert tree(tmp_path) == {f"new/glue/{name}": text for name, text in RTE.items()}
    assert list((tmp_path / "new" / "glue").iterdir()) == [tmp_path / "new" / "glue" / "RTE"]
    out, err = capsys.readouterr()
    assert "RTE/train.tsv: 3 records" in out and err == ""
    assert run(archive, tmp_path / "new" / "glue", "rte") == 0
    assert capsys.readouterr().out.count("already there") == 3
    assert archive.requests == [("RTE.zip", None)]


def test_mrpc_is_composed(web, tmp_path, monkeypatch):
    """As GLUE has it: the byte order mark stays, and both ids decide."""
    monkeypatch.setitem(ROWS, "mrpc", {"train": 3, "dev": 1, "test": 2})
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    rows = ["1\t10\t20\ta\tb é\n", "0\t11\t21\tc\td\n", "1\t11\t20\te\tf\n", "0\t20\t10\tg\th\n"]
    web.files["msr_paraphrase_train.txt"] = (header + "".join(rows)).encode()
    web.files["msr_paraphrase_test.txt"] = (header + "1\t1\t2\tk\tl\n0\t3\t4\tm\tn\n").encode()
    web.files["mrpc_dev_ids.tsv"] = b"11\t21\r\n10\t99\n"
    assert run(web, tmp_path, "mrpc") == 0
    assert tree(tmp_path) == {
        "MRPC/train.tsv": header + rows[0] + rows[2] + rows[3],
        "MRPC/dev.tsv": header + rows[1],
        "MRPC/test.tsv": "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\tk\tl\n1\t3\t4\tm\tn\n",
    }


def test_of_the_courses_files_the_missing_are_named_and_the_rest_is_fetched(web, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ROWS, "quora", {"dev": 2})
    dev = '\tid\tsentence1\tsentence2\tis_duplicate\n0\tx\t"a ""b"""\tc\t1.0\n1\ty\td\te\t\n'
    test = "\tid\tsentence1\tsentence2\n0\tz\tf\tg\n"  # its number is not published
    web.files |= {"quora-dev.csv": dev.encode(), "quora-test-student.csv": test.encode()}
    assert run(web, tmp_path, "quora") == 2
    assert tree(tmp_path) == {"quora-dev.csv": dev, "quora-test-student.csv": test}
    line = one_line(capsys)
    assert "/quora-train.csv cannot be had: 404" in line and download.COURSE_HOME in line


def test_an_interrupted_call_leaves_the_part_and_the_next_goes_on(archive, tmp_path, monkeypatch, capsys):
    def press_control_c(seconds):
        if seconds:
            raise KeyboardInterrupt

    archive.faults["RTE.zip"] = [100]
    with monkeypatch.context() as patch:
        patch.setattr(fetch, "PAUSE", 1)
        patch.setattr(fetch.time, "sleep", press_control_c)
        assert run(archive, tmp_path, "rte") == 130
    assert "interrupted" in one_line(capsys)
    assert (tmp_path / "RTE.zip.part").stat().st_size == 100 and not (tmp_path / "RTE").exists()
    assert run(archive, tmp_path, "rte") == 0
    assert archive.requests[1:] == [("RTE.zip", "bytes=100-")] and tree(tmp_path) == RTE


def flipped(body: bytes) -> bytes:
    return body.replace(b"another", b"anothes", 1)


BAD = {
    "truncated": (lambda body: body[:-30], "RTE.zip: damaged"),
    "changed on the way": (flipped, "RTE.zip: damaged: Bad CRC-32 for file 'RTE/train.tsv'"),
    "no zip": (lambda _: b"<html>", "RTE.zip: damaged: File is not a zip file"),
    "without a member": (lambda _: zipped({k: v for k, v in RTE.items() if "dev" not in k}), "'RTE/dev.tsv'"),
    "short of rows": (
        lambda _: zipped(RTE | {"RTE/dev.tsv": rte("entailment")}),
        "RTE.zip: RTE/dev.tsv holds 1 records instead of 2",
    ),
    "an unknown label": (lambda _: zipped(RTE | {"RTE/dev.tsv": rte("maybe")}), "RTE.zip: RTE/dev.tsv:2: label"),
}


@pytest.mark.parametrize("fault", BAD)
def test_what_is_wrong_leaves_nothing_behind(archive, tmp_path, capsys, fault):
    spoil, message = BAD[fault]
    archive.files["RTE.zip"] = spoil(archive.files["RTE.zip"])
    assert run(archive, tmp_path, "rte") == 2
    assert message in one_line(capsys) and list(tmp_path.iterdir()) == []


def test_an_archive_that_cannot_be_had_does_not_keep_the_others_away(archive, tmp_path, capsys):
    assert run(archive, tmp_path, "wnli", "rte") == 2
    line = one_line(capsys)
    assert f"{archive.url}/WNLI.zip cannot be had: 404 Not Found" in line and download.GLUE_HOME in line
    assert archive.requests == [("WNLI.zip", None), ("RTE.zip", None)] and tree(tmp_path) == RTE


def test_a_line_that_is_dead_stops_all(archive, tmp_path, capsys):
    archive.faults["RTE.zip"] = [10] * 9
    assert run(archive, tmp_path, "rte", "wnli") == 2
    assert f"{archive.url}/RTE.zip cannot be fetched" in one_line(capsys)
    assert ("WNLI.zip", None) not in archive.requests and not (tmp_path / "RTE").exists()


def test_a_full_disk_costs_no_second_transfer(archive, tmp_path, monkeypatch, capsys):
    def full(member, out, *_):
        assert Path(out.name).is_relative_to(tmp_path)  # on the disk of the target: a rename ends it
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(download.shutil, "copyfileobj", full)
        assert run(archive, tmp_path, "rte") == 2
    assert "No space left" in one_line(capsys)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["RTE.zip.part", "RTE.zip.part.version"]
    size = len(archive.files["RTE.zip"])
    assert run(archive, tmp_path, "rte") == 0
    assert archive.requests[1:] == [("RTE.zip", f"bytes={size}-")] and tree(tmp_path) == RTE


def test_a_target_that_cannot_be_made(archive, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert run(archive, tmp_path / "file" / "glue", "rte") == 2
    assert str(tmp_path / "file") in one_line(capsys) and archive.requests == []


def test_files_that_are_there_are_never_replaced(archive, tmp_path, capsys):
    own = rte("not_entailment", "not_entailment", "not_entailment")
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "train.tsv").write_text(own)
    assert run(archive, tmp_path, "rte") == 0
    assert tree(tmp_path) == RTE | {"RTE/train.tsv": own}
    (tmp_path / "RTE" / "dev.tsv").write_text(rte("entailment"))
    (tmp_path / "RTE" / "test.tsv").unlink()
    assert run(archive, tmp_path, "rte") == 2
    assert "dev.tsv holds 1 records instead of 2; delete it" in one_line(capsys)
    assert tree(tmp_path).keys() == {"RTE/train.tsv", "RTE/dev.tsv"} and len(archive.requests) == 1


@pytest.mark.parametrize("published, status", [(0, 2), (1, 0), (3, 0), (4, 2)])
def test_broken_records_may_be_counted_or_not(web, tmp_path, monkeypatch, published, status):
    """QQP's published number is without them; one that is broken by a line feed leaves two that are incomplete."""
    monkeypatch.setitem(ROWS, "qqp", {"train": published, "dev": 1, "test": 1})
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    whole, test = "0\t1\t2\ta\tb\t0\n", "id\tquestion1\tquestion2\n0\ta\tb\n"
    members = {"QQP/train.tsv": header + whole + "1\t3\t4\tc\n\td\t0\n", "QQP/dev.tsv": header + whole}
    web.files["QQP-clean.zip"] = zipped(members | {"QQP/test.tsv": test})
    assert run(web, tmp_path, "qqp") == status


@pytest.mark.parametrize(
    "argv, message",
    [
        (["rte", "nope", "--to", "x"], "invalid choice: 'nope'"),
        (["rte"], "--to"),
        (["--to", "x"], "task"),
        (["rte", "--to", "x", "--from", "ftp://host/"], "--from must be an http or https address"),
        (["rte", "--to", "x", "--from", "file:///etc"], "--from must be"),
        (["rte", "--to", "x", "--from", "http://[bad"], "--from must be"),
        (["rte", "--to", "x", "--from", "http://"], "--from must be"),
    ],
)
def test_mistakes_take_one_line(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert download.main(argv) == 2
    assert message in one_line(capsys) and list(tmp_path.iterdir()) == []


def test_groups_stand_for_their_tasks_each_once():
    assert download.parse(["rte", "glue", "--to", "x"])[0] == [TASKS["rte"], *(t for t in GLUE if t.name != "rte")]
    assert [t.name for t in download.parse(["course", "--to", "x"])[0]] == ["sst5", "cfimdb", "quora", "sts"]


def test_without_a_mirror_the_official_addresses_are_asked(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(download, "fetch", lambda url, part: asked.append(url) or part.write_bytes(b""))
    assert download.main(["glue", "sst5", "--to", str(tmp_path)]) == 2
    base, senteval = (
        "https://dl.fbaipublicfiles.com/glue/data/",
        "https://dl.fbaipublicfiles.com/senteval/senteval_data/",
    )
    archives = "CoLA SST-2 STS-B QQP-clean MNLI QNLIv2 RTE WNLI".split()
    mrpc = {senteval + "msr_paraphrase_train.txt", senteval + "msr_paraphrase_test.txt", base + "mrpc_dev_ids.tsv"}
    course = "https://raw.githubusercontent.com/gpoesia/minbert-default-final-project/main/data/ids-sst-{}.csv"
    sst5 = {course.format(split) for split in ("train", "dev", "test-student")}
    assert len(asked) == 14 and set(asked) == {f"{base}{name}.zip" for name in archives} | mrpc | sst5


def test_a_large_member_passes_through_in_pieces(tmp_path):
    text = bytes(16_000_000)
    with zipfile.ZipFile(tmp_path / "big.part", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in RTE:
            archive.writestr(name, text)
    tracemalloc.start()
    try:
        download.unzip(TASKS["rte"], [tmp_path / "big.part"], tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "dev.tsv").read_bytes() == text and peak < 4_000_000

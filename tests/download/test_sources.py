"""The published files of tasks, downloaded from a server on the loopback: they appear whole, or not at all."""

import errno
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from support.archives import RTE, download, error_line, rte_file, texts_below, zip_of

from minbert.data.tasks import GLUE, ROWS, TASKS
from minbert.download import checksums, fetch, sources
from minbert.download.__main__ import main, parse_arguments


def test_an_archive_gives_the_three_files_and_a_second_call_downloads_nothing(rte_server, tmp_path, capsys):
    data = tmp_path / "new" / "glue"
    assert download(rte_server, data, "rte") == 0
    assert texts_below(tmp_path) == {f"new/glue/{name}": text for name, text in RTE.items()}
    assert list(data.iterdir()) == [data / "RTE"]
    out, err = capsys.readouterr()
    assert "RTE/train.tsv: 3 records" in out and err == ""
    assert download(rte_server, data, "rte") == 0
    assert capsys.readouterr().out.count("already there") == 3
    assert rte_server.requests == [("RTE.zip", None)]


def test_mrpc_is_split_by_both_ids_and_keeps_its_byte_order_mark(web, tmp_path, monkeypatch):
    monkeypatch.setitem(ROWS, "mrpc", {"train": 3, "dev": 1, "test": 2})
    header = "\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n"
    rows = ["1\t10\t20\ta\tb é\n", "0\t11\t21\tc\td\n", "1\t11\t20\te\tf\n", "0\t20\t10\tg\th\n"]
    web.files["msr_paraphrase_train.txt"] = (header + "".join(rows)).encode()
    web.files["msr_paraphrase_test.txt"] = (header + "1\t1\t2\tk\tl\n0\t3\t4\tm\tn\n").encode()
    web.files["mrpc_dev_ids.tsv"] = b"11\t21\r\n10\t99\n"
    assert download(web, tmp_path, "mrpc") == 0
    assert texts_below(tmp_path) == {
        "MRPC/train.tsv": header + rows[0] + rows[2] + rows[3],
        "MRPC/dev.tsv": header + rows[1],
        "MRPC/test.tsv": "index\t#1 ID\t#2 ID\t#1 String\t#2 String\n0\t1\t2\tk\tl\n1\t3\t4\tm\tn\n",
    }


def test_a_missing_file_of_the_course_is_named_and_the_others_are_downloaded(web, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ROWS, "quora", {"dev": 2})
    dev = '\tid\tsentence1\tsentence2\tis_duplicate\n0\tx\t"a ""b"""\tc\t1.0\n1\ty\td\te\t\n'
    test = "\tid\tsentence1\tsentence2\n0\tz\tf\tg\n"  # its number of records is not published
    web.files |= {"quora-dev.csv": dev.encode(), "quora-test-student.csv": test.encode()}
    assert download(web, tmp_path, "quora") == 2
    assert texts_below(tmp_path) == {"quora-dev.csv": dev, "quora-test-student.csv": test}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["quora-dev.csv", "quora-test-student.csv"]
    line = error_line(capsys)
    assert "/quora-train.csv: download failed: 404" in line and sources.COURSE_PAGE in line


def test_an_interrupted_call_is_continued_by_the_next(rte_server, tmp_path, monkeypatch, capsys):
    def press_control_c(seconds):
        if seconds:
            raise KeyboardInterrupt

    rte_server.faults["RTE.zip"] = [100]
    with monkeypatch.context() as patch:
        patch.setattr(fetch, "PAUSE", 1)
        patch.setattr(fetch.time, "sleep", press_control_c)
        assert download(rte_server, tmp_path, "rte") == 130
    assert "interrupted" in error_line(capsys)
    assert (tmp_path / "RTE.zip.part" / "RTE.zip").stat().st_size == 100 and not (tmp_path / "RTE").exists()
    assert download(rte_server, tmp_path, "rte") == 0
    assert rte_server.requests[1:] == [("RTE.zip", "bytes=100-")] and texts_below(tmp_path) == RTE


BAD_ARCHIVES = {
    "truncated": (lambda body: body[:-30], "RTE.zip: damaged"),
    "with a changed byte": (
        lambda body: body.replace(b"another", b"anothes", 1),
        "RTE.zip: damaged: Bad CRC-32 for file 'RTE/train.tsv'",
    ),
    "no zip file": (lambda _: b"<html>", "RTE.zip: damaged: File is not a zip file"),
    "without a member": (lambda _: zip_of({k: v for k, v in RTE.items() if "dev" not in k}), "'RTE/dev.tsv'"),
    "with too few rows": (
        lambda _: zip_of(RTE | {"RTE/dev.tsv": rte_file("entailment")}),
        "RTE.zip: RTE/dev.tsv holds 1 records instead of 2",
    ),
    "with an unknown label": (lambda _: zip_of(RTE | {"RTE/dev.tsv": rte_file("maybe")}), "RTE.zip: RTE/dev.tsv:2: "),
}


@pytest.mark.parametrize("fault", BAD_ARCHIVES)
def test_a_bad_archive_leaves_nothing_behind(rte_server, tmp_path, capsys, fault):
    spoil, message = BAD_ARCHIVES[fault]
    rte_server.files["RTE.zip"] = spoil(rte_server.files["RTE.zip"])
    assert download(rte_server, tmp_path, "rte") == 2
    assert message in error_line(capsys) and list(tmp_path.iterdir()) == []


def test_a_refused_archive_does_not_stop_the_other_tasks(rte_server, tmp_path, capsys):
    assert download(rte_server, tmp_path, "wnli", "rte") == 2
    line = error_line(capsys)
    assert f"{rte_server.url}/WNLI.zip: download failed: 404 Not Found" in line and sources.GLUE_PAGE in line
    assert rte_server.requests == [("WNLI.zip", None), ("RTE.zip", None)] and texts_below(tmp_path) == RTE


def test_a_network_that_fails_stops_the_command(rte_server, tmp_path, capsys):
    rte_server.faults["RTE.zip"] = [10] * 9
    assert download(rte_server, tmp_path, "rte", "wnli") == 2
    assert f"{rte_server.url}/RTE.zip: download failed after 4 attempts" in error_line(capsys)
    assert ("WNLI.zip", None) not in rte_server.requests and not (tmp_path / "RTE").exists()


def test_after_a_full_disk_nothing_is_transferred_again(rte_server, tmp_path, monkeypatch, capsys):
    def fail(most, content, out, name):
        assert Path(out.name).is_relative_to(tmp_path)  # on the target's disk, where files can be moved in one step
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(sources, "copy_within", fail)
        assert download(rte_server, tmp_path, "rte") == 2
    assert "No space left" in error_line(capsys)
    names = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert names == ["RTE.zip.part", "RTE.zip.part/RTE.zip", "RTE.zip.part/RTE.zip.version"]
    size = len(rte_server.files["RTE.zip"])
    assert download(rte_server, tmp_path, "rte") == 0
    assert rte_server.requests[1:] == [("RTE.zip", f"bytes={size}-")] and texts_below(tmp_path) == RTE


def test_a_target_folder_that_cannot_be_made_is_one_line(rte_server, tmp_path, capsys):
    (tmp_path / "file").write_text("x")
    assert download(rte_server, tmp_path / "file" / "glue", "rte") == 2
    assert str(tmp_path / "file") in error_line(capsys) and rte_server.requests == []


def test_existing_files_are_never_replaced(rte_server, tmp_path, capsys):
    own = rte_file("not_entailment", "not_entailment", "not_entailment")
    (tmp_path / "RTE").mkdir()
    (tmp_path / "RTE" / "train.tsv").write_text(own)
    assert download(rte_server, tmp_path, "rte") == 0
    assert texts_below(tmp_path) == RTE | {"RTE/train.tsv": own}
    (tmp_path / "RTE" / "dev.tsv").write_text(rte_file("entailment"))
    (tmp_path / "RTE" / "test.tsv").unlink()
    assert download(rte_server, tmp_path, "rte") == 2
    assert "dev.tsv holds 1 records instead of 2; to download it again, delete it" in error_line(capsys)
    assert texts_below(tmp_path).keys() == {"RTE/train.tsv", "RTE/dev.tsv"} and len(rte_server.requests) == 1


@pytest.mark.parametrize("published, status", [(0, 2), (1, 0), (3, 0), (4, 2)])
def test_the_published_number_may_include_broken_records_or_not(web, tmp_path, monkeypatch, published, status):
    """QQP's number does not include them. A record that a line end breaks into two counts as two broken ones."""
    monkeypatch.setitem(ROWS, "qqp", {"train": published, "dev": 1, "test": 1})
    header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n"
    complete, test = "0\t1\t2\ta\tb\t0\n", "id\tquestion1\tquestion2\n0\ta\tb\n"
    members = {"QQP/train.tsv": header + complete + "1\t3\t4\tc\n\td\t0\n", "QQP/dev.tsv": header + complete}
    web.files["QQP-clean.zip"] = zip_of(members | {"QQP/test.tsv": test})
    assert download(web, tmp_path, "qqp") == status


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
        (["rte", "--to", "x", "--from", "http://host:65536"], "--from must be"),
    ],
)
def test_a_mistake_on_the_command_line_is_one_line(argv, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(argv) == 2
    assert message in error_line(capsys) and list(tmp_path.iterdir()) == []


def test_a_group_stands_for_its_tasks_and_each_task_counts_once():
    tasks, _, _ = parse_arguments(["rte", "glue", "--to", "x"])
    assert tasks == [TASKS["rte"], *(task for task in GLUE if task.name != "rte")]
    tasks, _, _ = parse_arguments(["course", "--to", "x"])
    assert [task.name for task in tasks] == ["sst5", "cfimdb", "quora", "sts"]


def test_without_a_mirror_the_official_addresses_are_used(tmp_path, monkeypatch):
    requested = []

    monkeypatch.setattr(sources, "check_checksum", lambda path, place: None)

    def record(url, partial, size):
        requested.append(url)
        assert size == checksums.published_size(sources.file_name(url))
        partial.write_bytes(b"")

    monkeypatch.setattr(sources, "download_file", record)
    assert main(["glue", "sst5", "--to", str(tmp_path)]) == 2
    glue = "https://dl.fbaipublicfiles.com/glue/data/"
    senteval = "https://dl.fbaipublicfiles.com/senteval/senteval_data/"
    archives = {f"{glue}{name}.zip" for name in "CoLA SST-2 STS-B QQP-clean MNLI QNLIv2 RTE WNLI".split()}
    mrpc = {senteval + "msr_paraphrase_train.txt", senteval + "msr_paraphrase_test.txt", glue + "mrpc_dev_ids.tsv"}
    course = "https://raw.githubusercontent.com/gpoesia/minbert-default-final-project/main/data/ids-sst-{}.csv"
    sst5 = {course.format(split) for split in ("train", "dev", "test-student")}
    assert len(requested) == 14 and set(requested) == archives | mrpc | sst5


def test_a_large_member_is_unzipped_in_blocks(tmp_path):
    text = bytes(16_000_000)
    with zipfile.ZipFile(tmp_path / "big.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name in RTE:
            archive.writestr(name, text)
    tracemalloc.start()
    try:
        sources.unzip(TASKS["rte"], [tmp_path / "big.zip"], tmp_path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (tmp_path / "dev.tsv").read_bytes() == text and peak < 4_000_000

"""Downloads that are not the published ones, servers that harm, and what other programs left."""

import hashlib
import io
import os
import re
import tracemalloc
import zipfile
from http import HTTPStatus
from pathlib import Path

import pytest
from support.archives import RTE, download, error_line, rte_file, zip_of

from minbert.data.tasks import ROWS, TASKS
from minbert.download import checksums, sources


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def publish(monkeypatch, name: str, data: bytes) -> None:
    monkeypatch.setitem(checksums.CHECKSUMS, name, (len(data), sha256(data)))


def test_all_downloads_but_two_have_a_published_checksum():
    names = {
        sources.file_name(url) for task in TASKS.values() for source in sources.sources_of(task) for url in source.urls
    }
    assert names - checksums.CHECKSUMS.keys() == {"quora-train.csv", "quora-test-student.csv"}
    assert checksums.CHECKSUMS.keys() <= names
    assert all(size > 0 and re.fullmatch("[0-9a-f]{64}", digest) for size, digest in checksums.CHECKSUMS.values())
    assert len(set(checksums.CHECKSUMS.values())) == len(checksums.CHECKSUMS)


def test_a_download_with_another_checksum_is_refused_by_name_and_removed(rte_server, tmp_path, monkeypatch, capsys):
    good = rte_server.files["RTE.zip"]
    publish(monkeypatch, "RTE.zip", good)
    assert download(rte_server, tmp_path / "a", "rte") == 0
    capsys.readouterr()
    # One row is another, and the archive is whole and of the same size: only the checksum tells.
    rows = rte_file("entailment", "not_entailment").replace("a sentence", "b sentence")
    changed = zip_of({"../evil.tsv": "x", **RTE, "RTE/dev.tsv": rows, "RTE/original/train.tsv": "x"})
    assert len(changed) == len(good) and changed != good
    rte_server.files["RTE.zip"] = changed
    assert download(rte_server, tmp_path / "b", "rte") == 2
    expected = (
        f"{rte_server.url}/RTE.zip is not the published file: its SHA-256 is {sha256(changed)}, not {sha256(good)}"
    )
    assert expected in error_line(capsys) and list((tmp_path / "b").iterdir()) == []


def test_an_existing_file_of_the_course_with_another_checksum_is_named_and_kept(web, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(ROWS, "sts", {})
    name, rows = "sts-{}.csv", "\tid\tsentence1\tsentence2\tsimilarity\n0\tx\ta\tb\t1.0\n"
    for split in ("train", "dev", "test-student"):
        publish(monkeypatch, name.format(split), rows.encode())
        (tmp_path / name.format(split)).write_text(rows)
    assert download(web, tmp_path, "sts") == 0
    capsys.readouterr()
    (tmp_path / "sts-dev.csv").write_text(rows.replace("1.0", "2.0"))
    assert download(web, tmp_path, "sts") == 2
    line = error_line(capsys)
    assert f"{tmp_path}/sts-dev.csv is not the published file: " in line and "delete it first" in line
    assert "2.0" in (tmp_path / "sts-dev.csv").read_text() and web.requests == []


def test_a_file_of_another_size_than_the_published_is_refused_at_once(rte_server, tmp_path, monkeypatch, capsys):
    publish(monkeypatch, "RTE.zip", b"12345")
    size = len(rte_server.files["RTE.zip"])
    assert download(rte_server, tmp_path, "rte") == 2
    assert f"RTE.zip has {size} bytes, the published file 5" in error_line(capsys) and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_zip_bomb_is_refused_before_it_unpacks(rte_server, tmp_path, monkeypatch, capsys, method):
    """Two of the methods unpack a block to any size at once, so they are not used at all."""
    monkeypatch.setattr(sources, "LARGEST", 1_000_000)
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, text in RTE.items():
            archive.writestr(name, text + "\n" * 9_000_000 * (name == "RTE/train.tsv"))
    rte_server.files["RTE.zip"] = file.getvalue()
    tracemalloc.start()
    try:
        assert download(rte_server, tmp_path, "rte") == 2
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    line = error_line(capsys)
    unusual = method != zipfile.ZIP_DEFLATED
    assert ("'RTE/train.tsv' is compressed in an unusual way" if unusual else "unpacks to more than 1000000") in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["RTE.zip.part", "RTE.zip.part/RTE.zip", "RTE.zip.part/RTE.zip.version"])
@pytest.mark.parametrize("kind", ["link to nothing", "link", "pipe"])
def test_a_link_or_a_pipe_at_a_temporary_name_is_refused(rte_server, tmp_path, capsys, name, kind):
    """Whoever put it there could let this program write into a file elsewhere."""
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    (data / name).parent.mkdir(parents=True)
    if kind == "link" and name.endswith("part"):
        elsewhere.mkdir()
    elif kind == "link":
        elsewhere.touch()
    before = everything(elsewhere)
    if kind == "pipe":
        os.mkfifo(data / name)
    else:
        (data / name).symlink_to(elsewhere)
    assert download(rte_server, data, "rte") == 2
    assert f"{data / name} is a link, a pipe or a device" in error_line(capsys)
    assert rte_server.requests == [] and not (data / "RTE").exists()
    assert everything(elsewhere) == before


def everything(path: Path) -> list | bytes | None:
    if path.is_dir():
        return sorted(path.rglob("*"))
    return path.read_bytes() if path.exists() else None


def test_what_a_killed_call_left_is_removed_by_the_next(rte_server, tmp_path):
    """It was killed while it built the files, or when they were all in place."""
    left = tmp_path / "RTE.zip.part" / f"{sources.STAGING}abc" / "RTE"
    left.mkdir(parents=True)
    (left / "train.tsv").write_text("half")
    rte_server.faults["RTE.zip"] = [10] * 4
    assert download(rte_server, tmp_path, "rte") == 2  # the network fails, so the partial download is kept
    assert sorted(path.name for path in (tmp_path / "RTE.zip.part").iterdir()) == ["RTE.zip", "RTE.zip.version"]
    assert download(rte_server, tmp_path, "rte") == 0
    left.mkdir(parents=True)
    assert download(rte_server, tmp_path, "rte") == 0
    assert list(tmp_path.iterdir()) == [tmp_path / "RTE"]


def test_an_error_that_quotes_the_server_cannot_control_the_terminal(rte_server, tmp_path, capsys, monkeypatch):
    respond = rte_server.send_response_only
    monkeypatch.setattr(
        rte_server, "send_error", lambda self, code: respond(self, code, "\x1b[31mred") or self.end_headers()
    )
    rte_server.faults["RTE.zip"] = [HTTPStatus(503)] * 4
    assert download(rte_server, tmp_path, "rte") == 2
    assert "after 4 attempts: 503 \\x1b[31mred" in error_line(capsys)

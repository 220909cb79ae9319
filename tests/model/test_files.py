"""Files are written whole or not at all, and read with one clear line for what is wrong with them."""

import json
import tracemalloc
from pathlib import Path

import pytest

from minbert import files
from minbert.errors import InputError


def test_a_file_that_fails_half_way_leaves_the_old_one_and_nothing_else(tmp_path):
    files.write_text(tmp_path / "x", "old")

    def fail(path: Path):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        files.write_file(tmp_path / "x", fail)
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_text() == "old"


def test_the_final_name_appears_only_when_the_file_is_whole(tmp_path):
    def write(path: Path):
        path.write_text("half")
        assert path.parent == tmp_path and not (tmp_path / "x").exists()  # one folder, or the rename would copy
        path.write_text("whole")

    files.write_file(tmp_path / "x", write)
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_text() == "whole"


def test_a_rename_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError("no permission")

    files.write_text(tmp_path / "x", "old")
    monkeypatch.setattr(files.os, "replace", fail)
    with pytest.raises(OSError, match="no permission"):
        files.write_text(tmp_path / "x", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["x"] and (tmp_path / "x").read_text() == "old"


def test_text_is_written_as_utf_8_and_replaces_what_was_there(tmp_path):
    for text in ("a long first text\n", "é 猫\n"):
        files.write_text(tmp_path / "x", text)
        assert (tmp_path / "x").read_bytes() == text.encode("utf-8")


def test_a_json_object_is_read_as_it_was_written(tmp_path):
    values = {"name": "é", "numbers": [1, 0.1, None], "inner": {"yes": True}}
    files.write_json(tmp_path / "x.json", values)
    assert files.read_json_object(tmp_path / "x.json") == values
    assert (tmp_path / "x.json").read_text().endswith("}\n")


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "does not exist"),
        (b"", "is not valid JSON: "),
        (b'{"a": 1', "is not valid JSON: "),
        (b'{"a": "\xff"}', "is not valid JSON: "),
        (b"[" * 200_000, "is not valid JSON: "),
        (b"[1, 2]", "must hold one JSON object"),
        (b"null", "must hold one JSON object"),
        (b'{"a": {"b": 1, "c": 2, "b": 1}}', "is not valid JSON: the key 'b' appears twice"),
    ],
)
def test_a_file_without_a_json_object_is_refused_by_name(tmp_path, content, message):
    path = tmp_path / "x.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        files.read_json_object(path)
    assert str(error.value).startswith(f"{path} {message}")


@pytest.mark.parametrize("read", [files.read_json_object, lambda path: list(files.read_lines(path))])
def test_a_folder_in_place_of_a_file_is_refused(tmp_path, read):
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read(tmp_path)


def test_only_line_feeds_end_a_line_and_a_byte_order_mark_is_not_text(tmp_path):
    (tmp_path / "x").write_bytes("\ufeffa\u2028b\x85c\r\n\nd\re\n\ufeff".encode())
    assert list(files.read_lines(tmp_path / "x")) == [(1, "a\u2028b\x85c"), (2, ""), (3, "d\re"), (4, "\ufeff")]


@pytest.mark.parametrize(
    "content, message",
    [(b"", " is empty"), (b"a\nb\n\xff\nc\n", ":3 is not UTF-8"), (None, " cannot be read: No such")],
)
def test_lines_that_cannot_be_read_are_refused_with_file_and_line(tmp_path, content, message):
    path = tmp_path / "x"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError) as error:
        list(files.read_lines(path))
    assert str(error.value).startswith(f"{path}{message}")


def test_a_line_or_a_file_that_is_too_long_for_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_TEXT", 1000)
    path = tmp_path / "x"
    path.write_bytes(b"a\n" + b"b" * 999 + b"\n" + b"c" * 1000)
    assert [len(line) for _, line in files.read_lines(path)] == [1, 999, 1000]
    path.write_bytes(b"a\n" + b"b" * 1000 + b"\nc\n")
    with pytest.raises(InputError, match=f"^{path}:2 has more than 1000 bytes$"):
        list(files.read_lines(path))
    path.write_text(json.dumps({"a": "b" * 1000}))
    with pytest.raises(InputError, match=f"^{path} has more than 1000 bytes$"):
        files.read_json_object(path)


def test_a_line_of_a_gigabyte_is_refused_before_it_is_read_to_its_end(tmp_path):
    with (tmp_path / "x").open("wb") as file:
        file.truncate(1_000_000_000)  # a hole, which takes no space on the disk
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=":1 has more than 67108864 bytes"):
            list(files.read_lines(tmp_path / "x"))
        assert tracemalloc.get_traced_memory()[1] < 200_000_000
    finally:
        tracemalloc.stop()

"""One file over a bad line: it goes on where it can, starts over where it must, and gives up in the end."""

import io
import sys
import tracemalloc

import pytest
from support.web import serve

from minbert.download import fetch
from minbert.errors import InputError

TEXT = bytes(range(200)) * 2


@pytest.fixture
def web(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSE", 0)
    with serve() as handler:
        handler.files["x"] = TEXT
        yield handler


@pytest.fixture
def part(tmp_path):
    return tmp_path / "x.part"


def ranges(web) -> list[str | None]:
    return [asked for _, asked in web.requests]


def test_a_broken_transfer_goes_on_where_it_stopped(web, part):
    web.faults["x"] = [100, 50]
    fetch.fetch(f"{web.url}/x", part)
    assert ranges(web) == [None, "bytes=100-", "bytes=150-"] and part.read_bytes() == TEXT


@pytest.mark.parametrize(
    "fault, asked",
    [
        ({"ranges": False}, [None, "bytes=100-"]),  # the server sends all, whatever it is asked for
        ({"etags": {"x": 'W/"weak"'}}, [None, None]),  # nothing tells whether the file has changed
    ],
)
def test_what_cannot_go_on_starts_over(web, part, fault, asked):
    for name, value in fault.items():
        setattr(web, name, value)
    web.faults["x"] = [100]
    fetch.fetch(f"{web.url}/x", part)
    assert ranges(web) == asked and part.read_bytes() == TEXT


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changes_is_not_glued_together(web, part, if_range):
    def change():
        web.files["x"], web.etags["x"] = TEXT[::-1], '"new"'

    web.if_range, web.faults["x"] = if_range, [100, change, 10]
    fetch.fetch(f"{web.url}/x", part)
    assert ranges(web)[1] == "bytes=100-" and part.read_bytes() == TEXT[::-1]


def test_a_piece_from_elsewhere_is_not_taken(web, part, monkeypatch):
    """The version is right, but the server begins where it likes."""
    web.faults["x"] = [100]
    send = web.send_header
    wrong = lambda self, name, value: send(self, name, value.replace("bytes 100-", "bytes 50-"))  # noqa: E731
    monkeypatch.setattr(web, "send_header", wrong)
    fetch.fetch(f"{web.url}/x", part)
    assert ranges(web) == [None, "bytes=100-", None] and part.read_bytes() == TEXT


def test_the_date_stands_in_for_an_etag():
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    assert fetch.version_of({"ETag": 'W/"weak"', "Last-Modified": date}) == date
    assert fetch.version_of({"ETag": '"strong"', "Last-Modified": date}) == '"strong"'


@pytest.mark.parametrize("there, asked", [(TEXT, ["bytes=400-"]), (TEXT + b"more", ["bytes=404-", None])])
def test_a_part_behind_which_nothing_comes(web, part, there, asked):
    part.write_bytes(there)
    fetch.mark_of(part).write_text('"x"')
    fetch.fetch(f"{web.url}/x", part)
    assert ranges(web) == asked and part.read_bytes() == TEXT


@pytest.mark.parametrize("there", ["x.part", "x.part.version"])
def test_a_part_and_its_mark_go_together(web, part, there):
    part.with_name(there).write_text('"x"')
    fetch.fetch(f"{web.url}/x", part)
    assert ranges(web) == [None] and part.read_bytes() == TEXT


def test_a_refusal_is_not_repeated(web, part):
    with pytest.raises(InputError, match=f"^{web.url}/y cannot be had: 404 Not Found$"):
        fetch.fetch(f"{web.url}/y", part)
    assert ranges(web) == [None] and not part.exists()


def test_a_busy_server_is_asked_again(web, part):
    web.faults["x"] = [503, 503, 503]
    fetch.fetch(f"{web.url}/x", part)
    assert part.read_bytes() == TEXT


def test_a_server_that_never_gets_to_the_end(web, part, monkeypatch):
    pauses = []
    monkeypatch.setattr(fetch, "PAUSE", 1)
    monkeypatch.setattr(fetch.time, "sleep", pauses.append)
    web.faults["x"] = [10] * 9
    with pytest.raises(ConnectionError, match="broke off 360 bytes before the end") as error:
        fetch.fetch(f"{web.url}/x", part)
    assert f"{web.url}/x cannot be fetched" in str(error.value) and "(4 attempts)" in str(error.value)
    assert ranges(web) == [None, "bytes=10-", "bytes=20-", "bytes=30-"] and pauses == [0, 1, 2, 3]
    assert part.read_bytes() == TEXT[:40]


def test_nobody_answers(part, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSE", 0)
    with serve() as web:
        pass
    with pytest.raises(ConnectionError, match="/x cannot be fetched: Connection refused"):
        fetch.fetch(f"{web.url}/x", part)
    assert list(part.parent.iterdir()) == []


def test_a_server_that_falls_silent(web, part, monkeypatch):
    silence = fetch.time.sleep
    monkeypatch.setattr(fetch, "TIMEOUT", 0.05)
    web.faults["x"] = [lambda: silence(0.5)] * 4
    with pytest.raises(ConnectionError, match="timed out"):
        fetch.fetch(f"{web.url}/x", part)


def test_a_large_file_passes_through_in_pieces(web, part):
    web.files["x"] = TEXT * 40_000
    tracemalloc.start()
    try:
        fetch.fetch(f"{web.url}/x", part)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert part.stat().st_size == 16_000_000 and peak < 4_000_000


def test_a_bar_on_a_terminal_and_nothing_elsewhere(web, part, monkeypatch, capsys):
    fetch.fetch(f"{web.url}/x", part)
    assert capsys.readouterr() == ("", "")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    part.write_bytes(TEXT[:100])
    fetch.fetch(f"{web.url}/x", part)
    assert "x: 100%" in terminal.getvalue() and "400/400" in terminal.getvalue()

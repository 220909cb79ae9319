"""One file over a bad network: a transfer continues where it can, and starts again where it must."""

import io
import sys
import threading
import tracemalloc
from http import HTTPStatus

import pytest
from support.web import serve

from minbert.download import fetch
from minbert.errors import InputError

TEXT = bytes(range(200)) * 2


@pytest.fixture
def server(web):
    web.files["x"] = TEXT
    return web


@pytest.fixture
def partial(tmp_path):
    return tmp_path / "x"


def requested_ranges(server) -> list[str | None]:
    return [requested for _, requested in server.requests]


def test_a_broken_transfer_continues_where_it_stopped(server, partial):
    server.faults["x"] = [100, 50]
    fetch.download_file(f"{server.url}/x", partial)
    assert requested_ranges(server) == [None, "bytes=100-", "bytes=150-"] and partial.read_bytes() == TEXT


@pytest.mark.parametrize(
    "fault, requested",
    [
        ({"ranges": False}, [None, "bytes=100-"]),  # the server ignores Range and sends the whole file
        ({"etags": {"x": 'W/"weak"'}}, [None, None]),  # nothing tells whether the file has changed
    ],
)
def test_a_transfer_that_cannot_continue_starts_again(server, partial, fault, requested):
    for name, value in fault.items():
        setattr(server, name, value)
    server.faults["x"] = [100]
    fetch.download_file(f"{server.url}/x", partial)
    assert requested_ranges(server) == requested and partial.read_bytes() == TEXT


@pytest.mark.parametrize("if_range", [True, False])
def test_a_file_that_changed_on_the_server_is_downloaded_from_its_start(server, partial, if_range):
    def change():
        server.files["x"], server.etags["x"] = TEXT[::-1], '"new"'

    server.if_range, server.faults["x"] = if_range, [100, change, 10]
    fetch.download_file(f"{server.url}/x", partial)
    assert requested_ranges(server)[1] == "bytes=100-" and partial.read_bytes() == TEXT[::-1]


def test_other_bytes_than_those_requested_are_not_used(server, partial, monkeypatch):
    """The version is right, but the server begins where it likes."""
    server.faults["x"] = [100]
    send = server.send_header
    wrong = lambda self, name, value: send(self, name, value.replace("bytes 100-", "bytes 50-"))  # noqa: E731
    monkeypatch.setattr(server, "send_header", wrong)
    fetch.download_file(f"{server.url}/x", partial)
    assert requested_ranges(server) == [None, "bytes=100-", None] and partial.read_bytes() == TEXT


def test_a_continuation_without_an_etag_keeps_the_recorded_version(server, partial, monkeypatch):
    send = server.send_header
    server.faults["x"] = [100, 50]

    def send_no_etag_later(self, name, value):
        if name != "ETag" or len(server.requests) == 1:
            send(self, name, value)

    monkeypatch.setattr(server, "send_header", send_no_etag_later)
    fetch.download_file(f"{server.url}/x", partial)
    assert requested_ranges(server) == [None, "bytes=100-", "bytes=150-"] and partial.read_bytes() == TEXT


def test_the_date_is_the_version_where_the_etag_is_weak():
    date = "Mon, 01 Jan 2024 00:00:00 GMT"
    assert fetch.version_of({"ETag": 'W/"weak"', "Last-Modified": date}) == date
    assert fetch.version_of({"ETag": '"strong"', "Last-Modified": date}) == '"strong"'


@pytest.mark.parametrize("there, requested", [(TEXT, ["bytes=400-"]), (TEXT + b"more", ["bytes=404-", None])])
def test_a_partial_file_that_is_complete_is_kept_and_one_that_is_too_long_is_not(server, partial, there, requested):
    partial.write_bytes(there)
    partial.with_name("x.version").write_text('"x"')
    fetch.download_file(f"{server.url}/x", partial)
    assert requested_ranges(server) == requested and partial.read_bytes() == TEXT


@pytest.mark.parametrize("there", ["x", "x.version"])
def test_a_partial_file_without_its_version_or_a_version_alone_is_not_used(server, partial, there):
    partial.with_name(there).write_text('"x"')
    fetch.download_file(f"{server.url}/x", partial)
    assert requested_ranges(server) == [None] and partial.read_bytes() == TEXT


def test_a_refused_request_is_not_repeated(server, partial):
    with pytest.raises(InputError, match=f"^{server.url}/y: download failed: 404 Not Found$"):
        fetch.download_file(f"{server.url}/y", partial)
    assert requested_ranges(server) == [None] and not partial.exists()


@pytest.mark.parametrize("status", [408, 429, 500, 503], ids=str)
def test_a_busy_or_broken_server_is_asked_again(server, partial, status):
    server.faults["x"] = [HTTPStatus(status)] * 3
    fetch.download_file(f"{server.url}/x", partial)
    assert requested_ranges(server) == [None] * 4 and partial.read_bytes() == TEXT


def test_after_four_broken_attempts_the_download_has_failed(server, partial, monkeypatch):
    pauses = []
    monkeypatch.setattr(fetch, "PAUSE", 1)
    monkeypatch.setattr(fetch.time, "sleep", pauses.append)
    server.faults["x"] = [10] * 9
    with pytest.raises(ConnectionError, match="broke 360 bytes before the end") as error:
        fetch.download_file(f"{server.url}/x", partial)
    assert str(error.value).startswith(f"{server.url}/x: download failed after 4 attempts")
    assert requested_ranges(server) == [None, "bytes=10-", "bytes=20-", "bytes=30-"] and pauses == [0, 1, 2, 3]
    assert partial.read_bytes() == TEXT[:40]


def test_a_refused_connection_leaves_no_file(partial, monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSE", 0)
    with serve() as server:
        pass
    with pytest.raises(ConnectionError, match="/x: download failed after 4 attempts: Connection refused"):
        fetch.download_file(f"{server.url}/x", partial)
    assert list(partial.parent.iterdir()) == []


def test_a_silent_server_times_out(server, partial, monkeypatch):
    over = threading.Event()

    def wait():
        over.wait()

    monkeypatch.setattr(fetch, "TIMEOUT", 0.05)
    server.faults["x"] = [wait] * 4
    try:
        with pytest.raises(ConnectionError, match="timed out"):
            fetch.download_file(f"{server.url}/x", partial)
    finally:
        over.set()


def test_a_large_file_is_written_in_blocks(server, partial):
    server.files["x"] = TEXT * 40_000
    tracemalloc.start()
    try:
        fetch.download_file(f"{server.url}/x", partial)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert partial.stat().st_size == 16_000_000 and peak < 4_000_000


def test_a_progress_bar_appears_on_a_terminal_only(server, partial, monkeypatch, capsys):
    fetch.download_file(f"{server.url}/x", partial)
    assert capsys.readouterr() == ("", "")
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(sys, "stderr", terminal)
    partial.write_bytes(TEXT[:100])
    fetch.download_file(f"{server.url}/x", partial)
    assert "x: 100%" in terminal.getvalue() and "400/400" in terminal.getvalue()


def redirect(server, *places: str):
    """Each answer of the server redirects to the next place."""
    places = list(places)

    def do_GET(self):
        server.requests.append((self.path, None))
        self.send_response(302)
        self.send_header("Location", places.pop(0) if len(places) > 1 else places[0])
        self.send_header("Content-Length", "1000000000000")  # a body that never comes
        self.end_headers()

    return do_GET


@pytest.mark.parametrize(
    "place, message",
    [
        ("file:///etc/passwd", "file:///etc/passwd is not an http or https address"),
        ("ftp://127.0.0.1/x", "ftp://127.0.0.1/x is not an http or https address"),
        ("data:text/plain,x", "data:text/plain,x is not an http or https address"),
        ("http://[::bad/", "redirects to http://[::bad/, which is not an http or https address"),
        ("http://127.0.0.1:99999/x", "is not an http or https address"),
        ("http://" + "a" * 64 + "/x", "cannot be opened: "),
        ("x", "more than 10 redirects"),
    ],
)
def test_a_redirect_to_another_kind_of_address_is_refused_in_one_line(server, partial, monkeypatch, place, message):
    monkeypatch.setattr(server, "do_GET", redirect(server, place))
    with pytest.raises(InputError) as error:
        fetch.download_file(f"{server.url}/y", partial)
    assert message in str(error.value) and not partial.exists()


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[::bad/"])
def test_an_address_of_another_kind_is_not_opened(partial, url):
    with pytest.raises(InputError, match="is not an http or https address"):
        fetch.download_file(url, partial)


def test_a_redirect_to_a_web_address_is_followed(server, partial, monkeypatch):
    answer = server.do_GET
    monkeypatch.setattr(
        server, "do_GET", lambda self: (answer if self.path == "/x" else redirect(server, "/x#\xe9 "))(self)
    )
    fetch.download_file(f"{server.url}/y", partial)
    assert partial.read_bytes() == TEXT


def drip(piece: bytes, headers: bytes):
    """An answer that hardly ends: one piece again and again, without a pause that the socket's limit would notice."""

    def do_GET(self):
        self.wfile.write(headers)
        for _ in range(100):  # longer than the four attempts together
            self.wfile.write(piece)
            self.wfile.flush()
            threading.Event().wait(0.02)

    return do_GET


@pytest.mark.parametrize(
    "headers, piece",
    [
        (b"HTTP/1.0 200 OK\r\n\r\n", b"x"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 400\r\n\r\n", b"x"),
        (b"HTTP/1.0 200 OK\r\nX-", b"x"),  # inside the headers
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: x\r\n"),  # after the end of the file
    ],
)
def test_a_server_that_sends_a_byte_now_and_then_ends_the_download(server, partial, monkeypatch, headers, piece):
    monkeypatch.setattr(fetch, "STALL", 0.1)
    monkeypatch.setattr(server, "do_GET", drip(piece, headers))
    with pytest.raises(ConnectionError, match="failed after 4 attempts: timed out"):
        fetch.download_file(f"{server.url}/x", partial)


def test_a_slow_server_that_makes_progress_is_not_stopped(server, partial, monkeypatch):
    """It takes several times the limit in all, but each 10 bytes come in time."""
    monkeypatch.setattr(fetch, "STALL", 0.4)
    monkeypatch.setattr(fetch, "PROGRESS", 10)

    def do_GET(self):
        self.wfile.write(b"HTTP/1.0 200 OK\r\n\r\n")
        for start in range(0, 400, 20):
            self.wfile.write(TEXT[start : start + 20])
            self.wfile.flush()
            threading.Event().wait(0.03)

    monkeypatch.setattr(server, "do_GET", do_GET)
    fetch.download_file(f"{server.url}/x", partial)
    assert partial.read_bytes() == TEXT


@pytest.mark.parametrize("announced", [True, False])
@pytest.mark.parametrize("size", [None, 300])
def test_a_file_that_is_too_large_is_not_downloaded(server, partial, monkeypatch, announced, size):
    monkeypatch.setattr(fetch, "LARGEST", 399)
    if not announced:
        send = server.send_header
        others = lambda self, name, value: None if name == "Content-Length" else send(self, name, value)  # noqa: E731
        monkeypatch.setattr(server, "send_header", others)
    with pytest.raises(InputError) as error:
        fetch.download_file(f"{server.url}/x", partial, size)
    both = f"{server.url}/x has 400 bytes, the published file 300"
    assert str(error.value) == (both if announced and size else f"{server.url}/x has more than {size or 399} bytes")
    assert not announced or not partial.exists()


@pytest.mark.parametrize("version", [b"\xff\xfe\0", b'"x"\r\nHost: evil', "é".encode(), b""])
def test_a_version_mark_that_no_server_sent_is_not_used(server, partial, version):
    partial.write_bytes(TEXT[:100])
    partial.with_name("x.version").write_bytes(version)
    fetch.download_file(f"{server.url}/x", partial)
    assert requested_ranges(server) == [None] and partial.read_bytes() == TEXT

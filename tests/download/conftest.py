"""A web server on the loopback for the tests of downloads."""

import pytest
from support.web import serve

from minbert.download import checksums, fetch


@pytest.fixture
def web(monkeypatch):
    """The server's handler class; its tables of files and faults are empty.

    There is no pause between two attempts, and no file has a published checksum.
    """
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSE", 0)
    monkeypatch.setattr(checksums, "CHECKSUMS", {})
    with serve() as handler:
        yield handler

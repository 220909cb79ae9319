"""A web server on the loopback for the tests of downloads."""

import pytest
from support.web import serve

from minbert.download import fetch


@pytest.fixture
def web(monkeypatch):
    """The server's handler class; its tables of files and faults are empty. No pause between two attempts."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(fetch, "PAUSE", 0)
    with serve() as handler:
        yield handler

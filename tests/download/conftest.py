"""A web server on the loopback, and one with an archive of RTE, for the tests of downloads."""

import pytest
from support.archives import RTE, zip_of
from support.web import serve

from minbert.data.tasks import ROWS
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


@pytest.fixture
def rte_server(web, monkeypatch):
    """A server with an archive of RTE that holds more than the three files."""
    monkeypatch.setitem(ROWS, "rte", {"train": 3, "dev": 2, "test": 1})
    web.files["RTE.zip"] = zip_of({"../evil.tsv": "x", **RTE, "RTE/original/train.tsv": "x"})
    return web

"""A file from the web to the disk: in pieces, in several attempts, going on where an earlier one broke off."""

import ssl
import sys
import time
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from minbert.errors import InputError, reason

ATTEMPTS, PAUSE, TIMEOUT, BLOCK = 4, 1.0, 30.0, 1 << 18  # PAUSE and TIMEOUT in seconds, BLOCK in bytes
BROKEN = (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)  # the network's faults, not the disk's
BUSY = (408, 429)  # with the server's own faults (500 and above) the refusals that may pass


def fetch(url: str, part: Path) -> None:
    """Fetch `url` into `part`. On an error what has come stays there, for the next call to go on with.

    Raises InputError if the server refuses, ConnectionError if no attempt came to the end, OSError for the disk.
    """
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * attempt)
        try:
            return receive(url, part)
        except HTTPError as error:
            why = f"{error.code} {error.reason}"
            if error.code == 416:  # the server has nothing from there on
                if part.exists() and error.headers.get("Content-Range") == f"bytes */{part.stat().st_size}":
                    return None  # because nothing is missing
                discard(part)
            elif error.code < 500 and error.code not in BUSY:
                raise InputError(f"{url} cannot be had: {why}") from None
        except BROKEN as error:
            why = reason(getattr(error, "reason", error))
    raise ConnectionError(f"{url} cannot be fetched: {why} ({ATTEMPTS} attempts)")


def receive(url: str, part: Path) -> None:
    """One attempt. A mark beside `part` tells its version: a file that has changed since is fetched from its start."""
    mark = mark_of(part)
    version = mark.read_text(encoding="utf-8") if mark.exists() and part.exists() else ""
    start = part.stat().st_size if version else 0
    headers = {"Range": f"bytes={start}-", "If-Range": version} if start else {}
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:
        if response.status != 206:
            start = 0
        elif not continues(response.headers, start, version):
            discard(part)
            raise HTTPException("the server sent another piece than it was asked for")
        with part.open("ab" if start else "wb") as file, progress(part, start, response.length) as bar:
            if not start:  # only now: the old part is gone
                mark.write_text(version_of(response.headers), encoding="utf-8")
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
        if response.length:
            raise HTTPException(f"the connection broke off {response.length} bytes before the end")


def continues(headers: Message, start: int, version: str) -> bool:
    """Does the piece belong behind the first `start` bytes? Some servers look at Range, but not at If-Range."""
    return headers.get("Content-Range", "").startswith(f"bytes {start}-") and version_of(headers) in ("", version)


def version_of(headers: Message) -> str:
    """What If-Range accepts: a strong ETag, else the date; "" if there is neither."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")


def mark_of(part: Path) -> Path:
    return part.with_name(f"{part.name}.version")


def discard(*parts: Path) -> None:
    for part in parts:
        part.unlink(missing_ok=True)
        mark_of(part).unlink(missing_ok=True)


def progress(part: Path, start: int, left: int | None) -> tqdm:
    total = None if left is None else start + left
    hidden = not sys.stderr.isatty()
    return tqdm(total=total, initial=start, desc=part.stem, unit="B", unit_scale=True, disable=hidden)

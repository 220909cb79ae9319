"""Download one file from the web, with retries. A partial file of an earlier attempt is continued."""

import ssl
import time
from email.message import Message
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from tqdm import tqdm

from minbert.errors import InputError, reason

ATTEMPTS = 4
PAUSE = 1.0  # seconds before the second attempt, twice that before the third, and so on
TIMEOUT = 30.0  # an attempt ends after so many seconds without a byte
BLOCK = 1 << 18  # bytes in memory at a time
# Errors of the network, but not of the disk: another attempt does not help if the disk is full.
NETWORK_ERRORS = (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
TEMPORARY = (408, 429)  # the server is busy: worth another attempt, as all codes from 500 on are


def download_file(url: str, partial: Path) -> None:
    """Download `url` into the file `partial`. After an error the bytes that came stay there, for the next call.

    Raises InputError if the server refuses, ConnectionError if all attempts failed, OSError if the disk fails.
    """
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * attempt)
        try:
            return receive(url, partial)
        except HTTPError as error:
            why = f"{error.code} {error.reason}"
            if error.code == 416:  # no bytes from there on: the file is complete, or it has become shorter
                if partial.exists() and error.headers.get("Content-Range") == f"bytes */{partial.stat().st_size}":
                    return None
                partial.unlink(missing_ok=True)
            elif error.code < 500 and error.code not in TEMPORARY:
                raise InputError(f"{url}: download failed: {why}") from None
        except NETWORK_ERRORS as error:
            why = reason(getattr(error, "reason", error))
    raise ConnectionError(f"{url}: download failed after {ATTEMPTS} attempts: {why}")


def receive(url: str, partial: Path) -> None:
    """One attempt. It asks for the missing bytes only if the file on the server still has the recorded version."""
    version_file = partial.with_name(f"{partial.name}.version")
    version = version_file.read_text(encoding="utf-8") if version_file.exists() and partial.exists() else ""
    start = partial.stat().st_size if version else 0
    headers = {"Range": f"bytes={start}-", "If-Range": version} if start else {}
    with urlopen(Request(url, headers=headers), timeout=TIMEOUT) as response:
        if response.status != 206:  # the server sends the whole file
            start = 0
        elif not is_continuation(response.headers, start, version):
            partial.unlink(missing_ok=True)
            raise HTTPException("the server sent other bytes than those requested")
        total = None if response.length is None else start + response.length
        bar = tqdm(total=total, initial=start, desc=partial.name, unit="B", unit_scale=True, disable=None)
        with bar, partial.open("ab" if start else "wb") as file:  # disable=None: the bar appears only on a terminal
            if not start:  # after the old bytes are deleted, or they would get the new version
                version_file.write_text(version_of(response.headers), encoding="utf-8")
            while block := response.read(BLOCK):
                file.write(block)
                bar.update(len(block))
        if response.length:
            raise HTTPException(f"the connection broke {response.length} bytes before the end")


def is_continuation(headers: Message, start: int, version: str) -> bool:
    """Whether the answer continues the first `start` bytes. Some servers ignore If-Range, so both are checked."""
    return headers.get("Content-Range", "").startswith(f"bytes {start}-") and version_of(headers) in ("", version)


def version_of(headers: Message) -> str:
    """What If-Range accepts as the version of a file: a strong ETag, else the date, "" if there is neither."""
    tag = headers.get("ETag", "")
    return tag if tag.startswith('"') else headers.get("Last-Modified", "")

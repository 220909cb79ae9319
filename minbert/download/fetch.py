"""Download one file from the web, with retries. A partial file of an earlier attempt is continued.

The server is not trusted: it can send too much, never end, or point to other places.
"""

import ssl
import string
import time
from email.message import Message
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urljoin, urlsplit
from urllib.request import HTTPRedirectHandler, Request, build_opener

from tqdm import tqdm

from minbert.errors import InputError, reason
from minbert.time_limit import call_within

ATTEMPTS = 4
PAUSE = 1.0  # seconds before the second attempt, twice that before the third, and so on
TIMEOUT = 30.0  # an attempt ends after so many seconds without a byte
# That limit alone would let a server send a byte now and then, for ever. So the headers, and then each PROGRESS bytes,
# must come within STALL seconds.
STALL = 60.0
PROGRESS = 60_000  # bytes
LARGEST = 1 << 30  # bytes: of a file whose size is not published, and of what a zip archive unpacks to
REDIRECTS = 10
BLOCK = 1 << 18  # bytes in memory at a time
# Errors of the network, but not of the disk: another attempt does not help if the disk is full.
NETWORK_ERRORS = (URLError, HTTPException, ConnectionError, TimeoutError, ssl.SSLError)
TEMPORARY = (408, 429)  # the server is busy: worth another attempt, as all codes from 500 on are


def download_file(url: str, partial: Path, size: int | None = None) -> None:
    """Download `url`, of `size` bytes if that is known, into the file `partial`.

    After an error the bytes that came stay there, for the next call. Raises InputError if the server refuses or the
    file has another size, ConnectionError if all attempts failed, OSError if the disk fails.
    """
    version_file = version_file_of(partial)
    check_own(partial)
    check_own(version_file)
    for attempt in range(ATTEMPTS):
        time.sleep(PAUSE * attempt)
        try:
            return receive(url, partial, version_file, size)
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


def version_file_of(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.version")


def check_own(path: Path) -> None:
    """Raise InputError for a link or a pipe at a temporary name: writing would change a file elsewhere, or hang."""
    if path.is_symlink() or (path.exists() and not path.is_file() and not path.is_dir()):
        raise InputError(f"{path} is a link, a pipe or a device, which this program never makes: remove it")


def receive(url: str, partial: Path, version_file: Path, size: int | None) -> None:
    """One attempt. It asks for the missing bytes only if the file on the server still has the recorded version."""
    version = version_file.read_bytes() if version_file.exists() and partial.exists() else b""
    version = as_version(version.decode("latin-1"))
    start = partial.stat().st_size if version else 0
    headers = {"Range": f"bytes={start}-", "If-Range": version} if start else {}
    with call_within(STALL, lambda: open_url(url, headers)) as response:
        if response.status != 206:  # the server sends the whole file
            start = 0
        elif not is_continuation(response.headers, start, version):
            partial.unlink(missing_ok=True)
            raise HTTPException("the server sent other bytes than those requested")
        total = None if response.length is None else start + response.length
        check_size(url, total, size)
        bar = tqdm(total=total, initial=start, desc=partial.name, unit="B", unit_scale=True, disable=None)
        with bar, partial.open("ab" if start else "wb") as file:  # disable=None: the bar appears only on a terminal
            if not start:  # after the old bytes are deleted, or they would get the new version
                version_file.write_text(version_of(response.headers), encoding="utf-8")
            for block in read_blocks(response):
                file.write(block)
                bar.update(len(block))
                check_size(url, None, size, received=file.tell())
        if response.length:
            raise HTTPException(f"the connection broke {response.length} bytes before the end")


def open_url(url: str, headers: dict[str, str]) -> HTTPResponse:
    """Open a web address, and those that it redirects to. Raises InputError if one is not http or https.

    urllib would follow redirects to ftp, read the body of a redirect without any bound, and fail at a broken address.
    """
    for _ in range(REDIRECTS):
        if not is_web_address(url):
            raise InputError(f"{url} is not an http or https address")
        try:
            return build_opener(NoRedirects).open(Request(url, headers=headers), timeout=TIMEOUT)
        except HTTPError as error:
            place = error.headers.get("Location")
            if error.code not in (301, 302, 303, 307, 308) or not place:
                raise
            error.close()
        except ValueError as error:  # a host that cannot be encoded
            raise InputError(f"{url} cannot be opened: {reason(error)}") from None
        try:
            url = urljoin(url, quote(place, encoding="latin-1", safe=string.punctuation))
        except ValueError:
            raise InputError(f"{url} redirects to {place}, which is not an http or https address") from None
    raise InputError(f"{url}: more than {REDIRECTS} redirects")


class NoRedirects(HTTPRedirectHandler):
    """Every redirect is an HTTPError, for open_url."""

    def http_error_302(self, *_) -> None:
        return None

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302


def is_web_address(text: str) -> bool:
    """Whether a text is an http or https address with a host."""
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and text.isascii()
    except ValueError:  # brackets that do not match, or a port that is not a number
        return False


def check_size(url: str, total: int | None, size: int | None, received: int = 0) -> None:
    """Raise InputError if the announced or the received number of bytes is wrong for the file."""
    if size is not None and total not in (None, size):
        raise InputError(f"{url} has {total} bytes, the published file {size}")
    if max(total or 0, received) > (LARGEST if size is None else size):
        raise InputError(f"{url} has more than {LARGEST if size is None else size} bytes")


def read_blocks(response: HTTPResponse):
    """Yield the bytes as they come. Raises TimeoutError if they come too slowly."""
    deadline, arrived = time.monotonic() + STALL, 0
    while block := call_within(deadline - time.monotonic(), lambda: response.read1(BLOCK)):
        yield block
        arrived += len(block)
        if arrived >= PROGRESS:
            deadline, arrived = time.monotonic() + STALL, 0


def is_continuation(headers: Message, start: int, version: str) -> bool:
    """Whether the answer continues the first `start` bytes. Some servers ignore If-Range, so both are checked."""
    return headers.get("Content-Range", "").startswith(f"bytes {start}-") and version_of(headers) in ("", version)


def version_of(headers: Message) -> str:
    """What If-Range accepts as the version of a file: a strong ETag, else the date, "" if there is neither."""
    tag = headers.get("ETag", "")
    return as_version(tag if tag.startswith('"') else headers.get("Last-Modified", ""))


def as_version(text: str) -> str:
    """The text if it can stand in a header; "" for anything else that a server sends or a file holds."""
    return text if text.isascii() and text.isprintable() else ""

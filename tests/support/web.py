"""A web server on the loopback that can break connections, refuse requests and change its files."""

import contextlib
import http.server
import threading
from http import HTTPStatus


class Web(http.server.BaseHTTPRequestHandler):
    """Serves `files`, each with an ETag. `faults` says what is wrong with the next answers for a file."""

    files: dict[str, bytes]
    etags: dict[str, str]
    faults: dict[str, list]  # for each answer: a status, after how many bytes to break off, or a function to call first
    requests: list[tuple[str, str | None]]  # (file, value of its Range header)
    ranges = True  # whether the server supports Range
    if_range = True  # whether the server checks If-Range

    def do_GET(self):
        name, requested = self.path.removeprefix("/"), self.headers["Range"]
        self.requests.append((name, requested))
        if name not in self.files:
            return self.send_error(404)
        fault = self.faults[name].pop(0) if self.faults.get(name) else None
        if isinstance(fault, HTTPStatus):
            return self.send_error(fault)
        if callable(fault):
            fault = fault()
        body, etag, start = self.files[name], self.etags.get(name, f'"{name}"'), 0
        if requested and self.ranges and (self.headers["If-Range"] == etag or not self.if_range):
            start = int(requested.removeprefix("bytes=").removesuffix("-"))
        missing = requested and start >= len(body)
        self.send_response(416 if missing else 206 if start else 200)
        self.send_header("Content-Range", f"bytes */{len(body)}" if missing else f"bytes {start}-/{len(body)}")
        self.send_header("Content-Length", str(len(body[start:])))
        self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body[start:][:fault])

    def log_message(self, *_):
        """Print nothing."""


@contextlib.contextmanager
def serve():
    """Start a server. Yield its handler class: it has the `url`, and empty tables for a test to fill."""
    handler = type("Handler", (Web,), {"files": {}, "etags": {}, "faults": {}, "requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_: None  # a client that breaks the connection is no error here
        handler.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield handler
        finally:
            server.shutdown()
            thread.join()

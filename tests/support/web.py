"""A web server on the loopback that hangs up, forgets and changes its mind."""

import contextlib
import http.server
import threading


class Web(http.server.BaseHTTPRequestHandler):
    """Files with an ETag each; `faults` says how the next answers to a name differ from good ones."""

    files: dict[str, bytes]
    etags: dict[str, str]
    faults: dict[str, list]  # of a name: 503, or bytes to send before hanging up, or what to call before answering
    requests: list[tuple[str, str | None]]  # (name, its Range)
    ranges = True  # whether the server knows Range
    if_range = True  # whether it looks at If-Range

    def do_GET(self):
        name, asked = self.path.removeprefix("/"), self.headers["Range"]
        self.requests.append((name, asked))
        if name not in self.files:
            return self.send_error(404)
        fault = self.faults[name].pop(0) if self.faults.get(name) else None
        if fault == 503:
            return self.send_error(503)
        if callable(fault):
            fault = fault()
        body, etag, start = self.files[name], self.etags.get(name, f'"{name}"'), 0
        if asked and self.ranges and (self.headers["If-Range"] == etag or not self.if_range):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        missing = asked and start >= len(body)
        self.send_response(416 if missing else 206 if start else 200)
        self.send_header("Content-Range", f"bytes */{len(body)}" if missing else f"bytes {start}-/{len(body)}")
        self.send_header("Content-Length", str(len(body[start:])))
        self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body[start:][:fault])

    def log_message(self, *_):
        """Quiet."""


@contextlib.contextmanager
def serve():
    """Yield a handler class with `url`, and empty tables to fill."""
    handler = type("Handler", (Web,), {"files": {}, "etags": {}, "faults": {}, "requests": []})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.handle_error = lambda *_: None  # the client may hang up too
        handler.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        try:
            yield handler
        finally:
            server.shutdown()
            thread.join()

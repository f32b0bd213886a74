"""A web server of files in memory that can break off, wait, ignore ranges, or change its files."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Files:
    """`content` by path; `breaks` are the bytes after which the next answers end, `seen` the ranges that were asked.

    After `waits_after` bytes an answer goes on when `go_on` is set.
    """

    content: dict[str, bytes]
    breaks: list[int] = field(default_factory=list)
    ranges: bool = True
    etag: str | None = '"1"'
    seen: list[str | None] = field(default_factory=list)
    address: str = ""
    waits_after: int | None = None
    go_on: threading.Event = field(default_factory=threading.Event)


@contextmanager
def serving(files: Files) -> Iterator[Files]:
    """Serve files at `files.address`."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            content = files.content.get(self.path)
            files.seen.append(self.headers.get("Range"))
            if content is None:
                self.send_error(404)
                return
            start = 0
            if files.ranges and self.headers.get("Range") and self.headers.get("If-Range") == files.etag:
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(content) - start))
            if files.etag:
                self.send_header("ETag", files.etag)
            self.end_headers()
            end = start + files.breaks.pop(0) if files.breaks else len(content)
            if files.waits_after is not None and not files.go_on.is_set():
                self.wfile.write(content[start : files.waits_after])
                files.go_on.wait(60.0)
                return
            self.wfile.write(content[start:end])
            self.close_connection = True

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    files.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield files
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

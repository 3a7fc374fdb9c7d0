"""The bucket of the kit's tests behind a port, so that a proxy can stand before it; it fails as it is told."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from kgl_servicekit.objects.s3_connection import Request
from kgl_servicekit.testing.s3 import S3Fault, S3ForTests

Mode = Literal["ok", "503", "truncated"]
BAD_MODES: tuple[Mode, ...] = ("503", "truncated")


class S3Server:
    """`bucket` holds the objects; `mode` says how requests for them end."""

    def __init__(self) -> None:
        self.bucket = S3ForTests(page=1000, fault=self._fail)
        self.mode: Mode = "ok"
        self.port = 0
        self.lock = threading.Lock()

    def _fail(self, _request: Request) -> None:
        if self.mode == "503":
            raise S3Fault("SlowDown", 503)

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        """One request."""
        content = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        host = handler.headers["Host"]
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(
            method=handler.command, url=f"http://{host}{handler.path}", headers=headers, content=content, seconds=10.0
        )
        with self.lock:
            made = self.bucket.answer(request)
        body = made.read()
        length = made.headers.get("content-length", str(len(body)))
        handler.send_response(made.status)
        for name, value in {**made.headers, "content-length": length}.items():
            handler.send_header(name, value)
        handler.end_headers()
        if self.mode == "truncated" and handler.command == "GET" and len(body) > 1:
            body = body[: len(body) // 2]
            handler.close_connection = True
        if handler.command != "HEAD":
            handler.wfile.write(body)


@contextmanager
def s3_server() -> Iterator[S3Server]:
    """A server, while this is open."""
    made = S3Server()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            made.answer(self)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815  # as the library asks for them

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield made
    finally:
        server.shutdown()
        server.server_close()

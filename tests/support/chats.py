"""An endpoint of the OpenAI chat protocol that answers as it is told."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Endpoint(ThreadingHTTPServer):
    """Answers every request alike."""

    daemon_threads = True

    def __init__(self, status: int, body: bytes, *, late: bool) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = (status, body)
        self.late = late
        self.released = threading.Event()
        self.asked: list[tuple[str, str | None, Any]] = []

    @property
    def url(self) -> str:
        """Where it is, without a path."""
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:  # the library's name
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, self.headers.get("Authorization"), body))
        if self.server.late:
            self.server.released.wait(5)
        status, content = self.server.answer
        self.send_response(status)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *args: Any) -> None:  # it would write to the terminal
        pass


@contextmanager
def endpoint(status: int = 200, body: bytes = b"", *, late: bool = False) -> Iterator[Endpoint]:
    """An endpoint at a free port."""
    server = Endpoint(status, body, late=late)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


def said(text: str) -> bytes:
    """A chat's answer with some words."""
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]}).encode()

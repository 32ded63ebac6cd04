"""The reader of texts against an endpoint that answers well, badly, or only the second time."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from services.chassis.chat import Chat
from services.chassis.environment import read_environment
from services.triplets.config import Config
from services.triplets.core.extraction.ports import ReaderFailedError
from services.triplets.core.schema import Field
from services.triplets.reader import ChatReader
from services.triplets.wiring import open_reader

FIELDS = [
    Field(name="age", kind="hard", type="integer", description="Age in years."),
    Field(
        name="goal",
        kind="hard",
        type="enum",
        members=("fun", "love"),
        member_descriptions=(("fun", "no strings"),),
    ),
]
READINGS = {"age": {"value": 34, "quote": "I'm 34", "confidence": 0.9}}


class Endpoint(ThreadingHTTPServer):
    """Gives its answers one after another, the last again and again."""

    daemon_threads = True

    def __init__(self, *answers: tuple[int, str]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers = list(answers)
        self.asked: list[Any] = []


class _Handler(BaseHTTPRequestHandler):
    server: Endpoint

    def do_POST(self) -> None:  # the library's name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append(json.loads(body))
        answers = self.server.answers
        status, text = answers.pop(0) if len(answers) > 1 else answers[0]
        message = {"role": "assistant", "content": text}
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"message": message}]}).encode())

    def log_message(self, *args: Any) -> None:  # it would write to the terminal
        pass


@contextmanager
def endpoint(*answers: tuple[int, str]) -> Iterator[Endpoint]:
    """An endpoint at a free port."""
    server = Endpoint(*answers)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def reader_at(server: Endpoint) -> ChatReader:
    """A reader that asks an endpoint."""
    return ChatReader(Chat(f"http://127.0.0.1:{server.server_port}/v1", "wise", "", 5.0))


async def test_the_model_is_told_the_fields_and_the_text() -> None:
    with endpoint((200, json.dumps(READINGS))) as server:
        assert await reader_at(server).read(FIELDS, "I'm 34") == READINGS
    (asked,) = server.asked
    told = json.loads(asked["messages"][1]["content"])
    assert told["text"] == "I'm 34"
    assert [field["name"] for field in told["fields"]] == ["age", "goal"]
    assert told["fields"][1]["members"] == ["fun", "love"]
    assert told["fields"][1]["member_descriptions"] == {"fun": "no strings"}


async def test_a_failure_is_asked_about_once_more() -> None:
    with endpoint((500, ""), (200, json.dumps(READINGS))) as server:
        assert await reader_at(server).read(FIELDS, "I'm 34") == READINGS
    assert len(server.asked) == 2


@pytest.mark.parametrize("answer", [(500, ""), (200, "I cannot read.")])
async def test_two_failures_are_one(answer: tuple[int, str]) -> None:
    with endpoint(answer) as server, pytest.raises(ReaderFailedError):
        await reader_at(server).read(FIELDS, "I'm 34")
    assert len(server.asked) == 2


def test_without_a_url_there_is_no_reader() -> None:
    names = ("GRPC_ADDRESS", "METRICS_ADDRESS", "GATEWAY_ADDRESS", "SERVING_ADDRESS")
    others = ("MESH_TOKEN", "POSTGRES_DSN", "ARTIFACTS_URL")
    told = {f"TRINE_{name}": "x" for name in (*names, *others)}
    assert open_reader(read_environment(Config, told)) is None
    told |= {"TRINE_READER_URL": "http://x", "TRINE_READER_MODEL": "wise"}
    assert open_reader(read_environment(Config, told)) is not None

"""Logs: what could open something is struck out, wherever it stands and whoever logs it."""

import errno
import io
import json
import logging
import sys
from collections.abc import Iterator

import pytest
import structlog

from services.chassis.api_key import mint_api_key
from services.chassis.telemetry import configure_logging, hide_secrets

KEY, HASHED = mint_api_key()
MARKER = "hunter2"


@pytest.mark.parametrize(
    "event",
    [
        {"authorization": MARKER},
        {"Password": MARKER},
        {"body": {"text": MARKER}},
        {"event": f"could not connect to postgresql://trine:{MARKER}@db:5432/triplets"},
        {"event": f"nats://demo:{MARKER}@127.0.0.1:4222 is away"},
        {"exception": f"RuntimeError: Bearer {MARKER}"},
        {"secret": f"whsec_{MARKER}"},
        {"event": f"signed with whsec_{MARKER}=="},
        {"metadata": [("trine-mesh-token", MARKER)]},
        {"metadata": [("Authorization", MARKER)]},
        {"metadata": {"authorization": MARKER}},
        {"error": ValueError(f"redis://:{MARKER}@cache")},
    ],
)
def test_a_secret_is_struck_out(event: dict[str, object]) -> None:
    assert MARKER not in json.dumps(hide_secrets(None, "", dict(event)))


def test_of_a_key_the_public_id_alone_is_left() -> None:
    told = hide_secrets(None, "", {"event": f"GET / authorization: Bearer {KEY}"})["event"]
    assert HASHED.key_id in told
    assert KEY not in told
    assert KEY[18:30] not in told


def test_what_is_no_secret_stays() -> None:
    event = {"event": "run_queued", "run_id": "tr_1", "seconds": 1.5, "url": "http://h:80/a@b"}
    assert hide_secrets(None, "", dict(event)) == event


@pytest.mark.parametrize("value", [[{"run": 1}, {"run": 2}], [["a"], 1], {1: "one", None: "none"}])
def test_whatever_is_logged_can_be_logged(value: object) -> None:
    assert hide_secrets(None, "", {"event": "found", "value": value})["value"] == value


class FullDisk(io.StringIO):
    """A file on a disk without room."""

    def write(self, _text: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.fixture
def configured() -> Iterator[structlog.typing.FilteringBoundLogger]:
    """A service's logger; the process' own settings come back."""
    before = logging.root.handlers[:], logging.root.level
    try:
        yield configure_logging("test")
    finally:
        structlog.reset_defaults()
        structlog.contextvars.clear_contextvars()
        logging.root.handlers[:], logging.root.level = before


def test_a_line_that_cannot_be_written_ends_nobodys_work(
    configured: structlog.typing.FilteringBoundLogger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", FullDisk())
    configured.info("lost")
    logging.getLogger("some.library").error("lost too")


@pytest.mark.usefixtures("configured")
def test_what_a_library_logs_comes_as_an_event_too(capsys: pytest.CaptureFixture[str]) -> None:
    error = RuntimeError(f"postgresql://trine:{MARKER}@db")
    logging.getLogger("some.library").error("it broke", exc_info=error)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["logger"], line["service"]) == ("it broke", "some.library", "test")
    assert "RuntimeError" in line["exception"]
    assert MARKER not in json.dumps(line)

"""Logs: what could open something is struck out, wherever it stands and whoever logs it."""

import json
import logging

import pytest

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


def test_what_a_library_logs_comes_as_an_event_too(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("test")
    error = RuntimeError(f"postgresql://trine:{MARKER}@db")
    logging.getLogger("some.library").error("it broke", exc_info=error)
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["logger"], line["service"]) == ("it broke", "some.library", "test")
    assert "RuntimeError" in line["exception"]
    assert MARKER not in json.dumps(line)

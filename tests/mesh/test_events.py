"""What subscribers hear: CloudEvents on JetStream, by plain nats-py, the tenant's own alone."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nats.aio.client import Client

from tests.support.mesh import INBOX, Json, Mesh

ROOT = Path(__file__).parents[2]


async def ignore(_error: Exception) -> None:
    """Errors of the connection are what the test is about."""


async def collect(mesh: Mesh, subject: str, run_id: str) -> list[Json]:
    """All events of a run on a subject, oldest first."""
    client: Client = await nats.connect(mesh.told["nats"], inbox_prefix=INBOX)
    try:
        events = await client.jetstream().pull_subscribe(subject, stream="TRINE_EVENTS")
        found: list[Json] = []
        while True:
            try:
                messages = await events.fetch(100, timeout=1)
            except TimeoutError:
                return found
            for message in messages:
                await message.ack()
                event = json.loads(message.data)
                if run_id in json.dumps(event["data"]):
                    found.append({**event, "bus_subject": message.subject})
    finally:
        await client.close()


def test_a_run_is_told_from_wish_to_head(mesh: Mesh) -> None:
    mesh.fill("events")
    mesh.report("events", range(30))
    run = mesh.train("events")
    events = asyncio.run(collect(mesh, "trine.events.v1.*.*.demo.events", run["run_id"]))
    kinds = [event["type"].removeprefix("trine.events.v1.") for event in events]
    assert kinds == ["run.queued", "run.started", "run.completed", "head.promoted"]
    for event in events:
        assert event["specversion"] == "1.0"
        assert event["source"] == "/trine/scheduler"
        assert event["datacontenttype"] == "application/json"
        assert re.fullmatch(r"[0-9a-f-]{36}", event["id"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event["time"])
        assert event["bus_subject"] == f"{event['type']}.demo.events"
        assert event["data"]["tenant"] == "demo"
    assert len({event["id"] for event in events}) == 4
    completed = events[2]
    assert completed["subject"] == run["run_id"]
    assert completed["data"]["run"]["verdict"] == run["verdict"]
    assert events[3]["data"]["head"]["head"] == run["head"]
    assert events[3]["data"]["previous_head"] == ""


def test_the_readmes_subscriber_works_as_printed(mesh: Mesh, tmp_path: Path) -> None:
    readme = (ROOT / "README.md").read_text()
    (program,) = re.findall(r"```python\n(.*?pull_subscribe.*?)```", readme, re.DOTALL)
    (tmp_path / "subscriber.py").write_text(program)
    (tmp_path / ".trine").symlink_to(mesh.home.folder)
    with subprocess.Popen(
        [sys.executable, "-u", "subscriber.py"], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    ) as process:
        mesh.fill("subscribed")
        mesh.report("subscribed", range(10))
        run = mesh.train("subscribed")
        assert process.stdout is not None
        for line in process.stdout:
            if run["run_id"] in line:
                assert run["verdict"]["result"] in line
                break
        else:
            raise AssertionError("the subscriber ended without a word about the run")
        process.terminate()


@pytest.mark.parametrize(
    "subject",
    [
        "trine.events.v1.run.completed.>",
        "trine.events.v1.run.completed.*.dating",
        "trine.events.v1.run.completed.other.>",
        "trine.events.v1.>",
    ],
)
async def test_a_tenant_cannot_listen_to_others(mesh: Mesh, subject: str) -> None:
    client: Client = await nats.connect(mesh.told["nats"], inbox_prefix=INBOX, error_cb=ignore)
    try:
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await client.jetstream(timeout=1).pull_subscribe(subject, stream="TRINE_EVENTS")
        heard: list[Any] = []

        async def hear(message: Any) -> None:
            heard.append(message)

        await client.subscribe(subject, cb=hear)
        mesh.call("POST", "/v1/heads:rollBack", {"domain": "events", "head": "general"})
        await asyncio.sleep(0.5)
        assert heard == []
    finally:
        await client.close()


async def test_a_tenant_cannot_tell_events(mesh: Mesh) -> None:
    client: Client = await nats.connect(mesh.told["nats"], inbox_prefix=INBOX, error_cb=ignore)
    try:
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await client.jetstream(timeout=1).publish("trine.events.v1.run.completed.demo.x", b"{}")
    finally:
        await client.close()

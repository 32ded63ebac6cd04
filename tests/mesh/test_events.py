"""What subscribers hear: CloudEvents on JetStream, by plain nats-py, the tenant's own alone."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

from typer.testing import CliRunner

from services.mesh.__main__ import app
from services.mesh.subscribers import is_welcome
from tests.support.clients import new_key
from tests.support.listeners import read_events
from tests.support.mesh import Json, Mesh, until

ROOT = Path(__file__).parents[2]


def collect(mesh: Mesh, subject: str, run: Json) -> list[Json]:
    """All events of a run on a subject, oldest first."""
    messages = asyncio.run(read_events(mesh.told["nats"], "demo", subject))
    events = [{**json.loads(one.data), "bus_subject": one.subject} for one in messages]
    return [event for event in events if run["run_id"] in json.dumps(event["data"])]


def test_a_run_is_told_from_wish_to_head(mesh: Mesh) -> None:
    mesh.fill("events")
    mesh.report("events", range(30))
    run = mesh.train("events")
    subject = "trine.events.v1.*.*.demo.events"
    events = until(lambda: found if len(found := collect(mesh, subject, run)) > 3 else None)
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


def test_an_operator_lets_another_tenant_listen_and_no_more(mesh: Mesh) -> None:
    before = mesh.pids()["nats"]
    other = Mesh(mesh.home, {**mesh.told, "api_key": new_key(mesh, "initech")})
    (code, first), (_, second) = (subscribers(mesh, "add", "initech") for _ in range(2))
    assert (code, first[:15], first != second) == (0, "nats://initech:", True)
    first, second = first.strip(), second.strip()
    other.fill("ears", 10)
    other.report("ears", range(5), 10)
    run = other.train("ears")
    told = until(lambda: found if len(found := heard(second, "initech")) > 1 else None)
    assert {event["data"]["tenant"] for event in told} == {"initech"}
    assert run["run_id"] in {event["subject"] for event in told}
    assert {event["data"]["tenant"] for event in heard(mesh.told["nats"], "demo")} <= {"demo"}
    assert (welcome(first), welcome(second), welcome(mesh.told["nats"])) == (False, True, True)

    assert subscribers(mesh, "remove", "initech") == (0, "It is removed.\n")
    assert welcome(second) is False
    has_none = (1, "'initech' has no user of NATS.\n")
    assert subscribers(mesh, "remove", "initech") == has_none
    assert mesh.pids()["nats"] == before
    other.http.close()


def test_nobody_listens_who_is_no_tenant(mesh: Mesh) -> None:
    before = mesh.home.read_secrets()
    for tenant in ("*", ">", "a.b", 'a"}', "a\nb", "$G", "TRINE", "", "nobody"):
        rule = "There is no tenant" if tenant == "nobody" else "a-z, 0-9"
        code, said = subscribers(mesh, "add", tenant)
        assert (code, rule in said) == (1, True), said
    assert mesh.home.read_secrets() == before


def subscribers(mesh: Mesh, *arguments: str) -> tuple[int, str]:
    """The exit status of `trine subscribers` and what it says."""
    told = {"TRINE_HOME": str(mesh.home.folder), "COLUMNS": "200"}
    result = CliRunner().invoke(app, ["subscribers", *arguments], env=told)
    return result.exit_code, result.stdout


def heard(url: str, tenant: str) -> list[Json]:
    """All events that there are for a tenant."""
    return [json.loads(message.data) for message in asyncio.run(read_events(url, tenant))]


def welcome(url: str) -> bool | None:
    """Whether an address opens NATS."""
    return asyncio.run(is_welcome(url))

"""Who may say and hear what on NATS, as the server is configured for a mesh."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client

from services.chassis.bus import STREAM, open_bus
from services.mesh import programs
from services.mesh.child import Child
from services.mesh.home import TENANT, Secrets
from tests.support.infrastructure import READY_SECONDS_MAX, free_ports, prepare_home

OWN = f"trine.events.v1.run.completed.{TENANT}.dating"
OTHERS = "trine.events.v1.run.completed.globex.dating"
ANSWER_SECONDS = 0.5
FORBIDDEN_TO_HEAR = (
    *(">", "_INBOX.>", "_INBOX_globex.>", OTHERS, "trine.events.v1.>", "$JS.>", "$SYS.>"),
)
FORBIDDEN_TO_SAY = (
    *(OWN, OTHERS, "_INBOX.any", "$JS.API.STREAM.PURGE.TRINE_EVENTS"),
    *("$JS.API.STREAM.DELETE.TRINE_EVENTS", "$JS.API.STREAM.MSG.GET.TRINE_EVENTS"),
    *("$JS.API.DIRECT.GET.TRINE_EVENTS", "$JS.API.STREAM.CREATE.OTHER"),
    *("$JS.API.CONSUMER.CREATE.TRINE_EVENTS", "$JS.API.CONSUMER.LIST.TRINE_EVENTS"),
    f"$JS.API.CONSUMER.CREATE.TRINE_EVENTS.any.{OTHERS}",
)

Connect = Callable[..., Awaitable[tuple[Client, list[str]]]]


@pytest.fixture
async def connect(tmp_path: Path) -> AsyncIterator[Connect]:
    """Connects one of the users to a server with an event of two tenants each."""
    home, secrets = prepare_home(tmp_path), Secrets()
    port, monitor_port = free_ports(2)
    child = Child(programs.nats(home, port, monitor_port, secrets), lambda: None)
    passwords = {"serving": secrets.nats_serving_password, TENANT: secrets.nats_tenant_password}
    clients = []

    async def made(user: str, **options: Any) -> tuple[Client, list[str]]:
        refusals: list[str] = []

        async def note(error: Exception) -> None:
            refusals.append(str(error))

        url = f"nats://{user}:{passwords[user]}@127.0.0.1:{port}"
        client = await nats.connect(url, error_cb=note, **options)
        clients.append(client)
        return client, refusals

    await child.start()
    try:
        await child.until_ready(READY_SECONDS_MAX)
        async with open_bus(f"nats://trine:{secrets.nats_password}@127.0.0.1:{port}") as bus:
            await bus.declare_stream()
            for number, subject in enumerate((OWN, OTHERS)):
                await bus.publish(subject, subject.encode(), f"id-{number}")
            yield made
        for client in clients:
            await client.close()
    finally:
        await child.stop()


async def fetched(client: Client, subject: str) -> list[str]:
    """What a consumer of the subject brings, as subscribers do it."""
    jetstream = client.jetstream(timeout=ANSWER_SECONDS)
    events = await jetstream.pull_subscribe(subject, stream=STREAM)
    return [message.subject for message in await events.fetch(9, timeout=ANSWER_SECONDS)]


async def test_a_tenant_fetches_its_own_events_by_its_own_inbox(connect: Connect) -> None:
    client, _ = await connect(TENANT, inbox_prefix=f"_INBOX_{TENANT}".encode())
    assert await fetched(client, f"trine.events.v1.run.completed.{TENANT}.>") == [OWN]
    for subject in (OTHERS, "trine.events.v1.>", "trine.events.v1.run.completed.*.dating"):
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await fetched(client, subject)


async def refused(refusals: list[str], what: str, subjects: Sequence[str]) -> None:
    """Waits until the server has refused each of the subjects."""
    wanted = {f'permissions violation for {what} to "{subject}"'.lower() for subject in subjects}
    async with asyncio.timeout(5):
        while len(refusals) < len(subjects):  # noqa: ASYNC110  # a server cannot set an event
            await asyncio.sleep(0.01)
    missing = [one for one in wanted if not any(one in text.lower() for text in refusals)]
    assert missing == []


@pytest.mark.parametrize("user", [TENANT, "serving"])
async def test_nobody_hears_more_than_they_need(connect: Connect, user: str) -> None:
    client, refusals = await connect(user)
    for subject in FORBIDDEN_TO_HEAR:
        await client.subscribe(subject)
    await refused(refusals, "subscription", FORBIDDEN_TO_HEAR)


@pytest.mark.parametrize("user", [TENANT, "serving"])
async def test_nobody_says_more_than_they_need(connect: Connect, user: str) -> None:
    client, refusals = await connect(user)
    for subject in FORBIDDEN_TO_SAY:
        await client.publish(subject, b"{}")
    await refused(refusals, "publish", FORBIDDEN_TO_SAY)

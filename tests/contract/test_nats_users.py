"""Who may say and hear what on NATS, as the server is configured for a mesh."""

import asyncio
import dataclasses
import json
import os
import signal
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
import nats.errors
import nats.js.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from services.chassis.bus import STREAM, NatsBus, open_bus
from services.mesh import programs
from services.mesh.child import Child
from services.mesh.home import Home, Secrets
from services.mesh.nats_users import (
    DOMAIN,
    mesh_url,
    serving_url,
    tenant_url,
    write_nats_config,
)
from services.mesh.subscribers import is_welcome
from tests.support.buses import until
from tests.support.infrastructure import READY_SECONDS_MAX, free_ports, prepare_home
from tests.support.listeners import fetch_events

OWN = "trine.events.v1.run.completed.acme.dating"
OTHERS = "trine.events.v1.run.completed.globex.dating"
OWN_ALL = "trine.events.v1.*.*.acme.>"
CREATE = f"$JS.{DOMAIN}.API.CONSUMER.CREATE.{STREAM}"
ANSWER_SECONDS = 0.5
HEARD_BY_NOBODY = (">", "_INBOX.>", OTHERS, "trine.events.v1.>", "$JS.>", "$SYS.>")
SAID_BY_NOBODY = (
    *(OWN, OTHERS, "_INBOX.any", "$JS.API.STREAM.DELETE.TRINE_EVENTS", "$SYS.REQ.SERVER.PING"),
    *("$JS.API.DIRECT.GET.TRINE_EVENTS", "$JS.API.STREAM.CREATE.OTHER", "$JS.API.STREAM.LIST"),
    *("$JS.API.CONSUMER.CREATE.TRINE_EVENTS", "$JS.API.CONSUMER.LIST.TRINE_EVENTS"),
    f"$JS.API.CONSUMER.CREATE.TRINE_EVENTS.any.{OTHERS}",
)
"""By tenants and serving; the mesh's own user says events."""
NOT_IMPORTED = (
    *("STREAM.INFO.TRINE_EVENTS", "STREAM.PURGE.TRINE_EVENTS", "STREAM.DELETE.TRINE_EVENTS"),
    *("STREAM.MSG.GET.TRINE_EVENTS", "DIRECT.GET.TRINE_EVENTS", "STREAM.UPDATE.TRINE_EVENTS"),
    *("CONSUMER.NAMES.TRINE_EVENTS", "CONSUMER.LIST.TRINE_EVENTS", "INFO"),
    *("CONSUMER.INFO.TRINE_EVENTS.globex_1", "CONSUMER.MSG.NEXT.TRINE_EVENTS.globex_1"),
    *("CONSUMER.DELETE.TRINE_EVENTS.globex_1", "CONSUMER.INFO.TRINE_EVENTS.acme_5"),
    *(f"CONSUMER.CREATE.TRINE_EVENTS.acme_1.{OTHERS}", "CONSUMER.CREATE.TRINE_EVENTS.acme_1"),
    f"CONSUMER.CREATE.TRINE_EVENTS.globex_1.{OWN_ALL}",
)


@dataclass
class Server:
    """A server of a mesh's configuration, whose tenants may come and go."""

    child: Child
    home: Home
    ports: tuple[int, int]
    bus: NatsBus
    secrets: Secrets
    clients: list[Client] = field(default_factory=list)

    def url(self, user: str) -> str:
        """Where a user connects."""
        address = f"127.0.0.1:{self.ports[0]}"
        mesh = {"TRINE": mesh_url, "SERVING": serving_url}
        if user in mesh:
            return mesh[user](address, self.secrets)
        return tenant_url(address, self.secrets, user)

    async def connect(self, user: str) -> tuple[Client, list[str]]:
        """A connection of a user, and what the server refuses it."""
        refusals: list[str] = []

        async def note(error: Exception) -> None:
            refusals.append(str(error))

        client = await nats.connect(self.url(user), error_cb=note, allow_reconnect=False)
        self.clients.append(client)
        return client, refusals

    async def tell(self, tenant: str, count: int = 1) -> None:
        """Publishes events of a tenant as the mesh does."""
        for _ in range(count):
            subject = f"trine.events.v1.run.completed.{tenant}.dating"
            await self.bus.publish(subject, subject.encode(), uuid.uuid4().hex)

    def change(self, **passwords: str | None) -> None:
        """Gives tenants their users, takes them from others, and has the server read it."""
        users = {**self.secrets.nats_subscribers, **passwords}
        left = {tenant: password for tenant, password in users.items() if password is not None}
        self.secrets = dataclasses.replace(self.secrets, nats_subscribers=left)
        write_nats_config(self.home, *self.ports, self.secrets)
        self.reload()

    def reload(self) -> None:
        """Has the server read its users."""
        os.kill(self.child.pid, signal.SIGHUP)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """A server with two tenants and an event of each."""
    home, known = prepare_home(tmp_path), Secrets(nats_subscribers={"acme": "a", "globex": "g"})
    port, monitor_port = free_ports(2)
    child = Child(programs.nats(home, port, monitor_port, known), lambda: None)
    await child.start()
    try:
        await child.until_ready(READY_SECONDS_MAX)
        async with open_bus(mesh_url(f"127.0.0.1:{port}", known)) as bus:
            await bus.declare_stream()
            made = Server(child, home, (port, monitor_port), bus, known)
            await made.tell("acme")
            await made.tell("globex")
            yield made
        for client in made.clients:
            await client.close()
    finally:
        await child.stop()


def subjects_of(messages: Sequence[Msg]) -> list[str]:
    return [message.subject for message in messages]


async def refused(refusals: list[str], what: str, subjects: Sequence[str]) -> None:
    """Waits until the server has refused each of the subjects, and nothing else."""
    wanted = {f'permissions violation for {what} to "{subject}"'.lower() for subject in subjects}
    await until(lambda: len(refusals) >= len(subjects))
    missing = [one for one in wanted if not any(one in text.lower() for text in refusals)]
    assert (missing, len(refusals)) == ([], len(subjects))


async def listen(client: Client, subject: str) -> list[Msg]:
    """What comes on a subject from now on."""
    heard: list[Msg] = []

    async def hear(message: Msg) -> None:
        heard.append(message)

    await client.subscribe(subject, cb=hear)
    await client.flush()
    return heard


async def test_a_tenant_fetches_its_own_events(server: Server) -> None:
    for tenant, subject in (("acme", OWN), ("globex", OTHERS)):
        client, refusals = await server.connect(tenant)
        assert subjects_of(await fetch_events(client, tenant)) == [subject]
        assert refusals == []


async def test_a_tenant_hears_its_own_events(server: Server) -> None:
    client, _ = await server.connect("acme")
    heard = await listen(client, ">")
    await server.tell("globex")
    await server.tell("acme")
    await until(lambda: bool(heard))
    assert subjects_of(heard) == [OWN]


async def test_a_tenant_reads_no_other_way(server: Server) -> None:
    other, _ = await server.connect("globex")
    events = await other.jetstream(domain=DOMAIN).pull_subscribe(
        "trine.events.v1.*.*.globex.>", durable="globex_1", stream=STREAM
    )
    client, _ = await server.connect("acme")
    jetstream = client.jetstream(domain=DOMAIN, timeout=ANSWER_SECONDS)
    for subject in (OTHERS, "trine.events.v1.>", "trine.events.v1.run.completed.*.dating"):
        with pytest.raises((nats.errors.Error, TimeoutError)):
            await jetstream.pull_subscribe(subject, durable="acme_1", stream=STREAM)
    # The subject that asks is the tenant's own, what it asks for is not.
    for wanted in ({"filter_subject": OTHERS}, {"filter_subjects": [OTHERS]}, {}):
        config = {"name": "acme_2", "ack_policy": "none", **wanted}
        body = json.dumps({"stream_name": STREAM, "config": config}).encode()
        answer = await client.request(f"{CREATE}.acme_2.{OWN_ALL}", body, timeout=5)
        assert "error" in json.loads(answer.data), wanted
    # What a tenant must not ask is answered by nobody, also under the stream's own prefix.
    for prefix in (f"$JS.{DOMAIN}.API", "$JS.API"):
        for subject in NOT_IMPORTED:
            answered = await asked(client, f"{prefix}.{subject}")
            assert answered is None or "not enabled for account" in answered, subject
    assert subjects_of(await events.fetch(9, timeout=ANSWER_SECONDS)) == [OTHERS]


async def asked(client: Client, subject: str) -> str | None:
    """What a request is answered; None where nobody does."""
    try:
        return (await client.request(subject, b"", timeout=ANSWER_SECONDS)).data.decode()
    except (nats.errors.Error, TimeoutError):
        return None


async def test_no_answer_can_be_led_into_anothers_subjects(server: Server) -> None:
    other, _ = await server.connect("globex")
    events = await other.jetstream(domain=DOMAIN).pull_subscribe(
        "trine.events.v1.*.*.globex.>", durable="globex_1", stream=STREAM
    )
    (fetched,) = await events.fetch(1, timeout=5)
    inbox = await listen(other, "_INBOX.known")
    client, _ = await server.connect("acme")
    await fetch_events(client, "acme")  # makes acme_4
    prefix = f"$JS.{DOMAIN}.API"
    for target in (OTHERS, "_INBOX.known", fetched.reply, "$JS.API.STREAM.PURGE.TRINE_EVENTS"):
        for subject in ("STREAM.NAMES", "CONSUMER.INFO.TRINE_EVENTS.acme_4"):
            await client.publish(f"{prefix}.{subject}", b"", reply=target)
        await client.publish(f"{prefix}.CONSUMER.MSG.NEXT.TRINE_EVENTS.acme_4", b"9", reply=target)
        config = {"name": "acme_2", "ack_policy": "none", "filter_subject": OWN_ALL}
        pushed = {**config, "deliver_subject": target, "headers_only": True}
        body = json.dumps({"stream_name": STREAM, "config": pushed}).encode()
        await client.request(f"{CREATE}.acme_2.{OWN_ALL}", body, timeout=5)
        await asyncio.sleep(0.2)
        await client.request(f"{prefix}.CONSUMER.DELETE.TRINE_EVENTS.acme_2", b"", timeout=5)
    await client.publish(fetched.reply, b"")  # another's acknowledgement
    await client.flush()
    await asyncio.sleep(0.2)
    assert inbox == []
    assert (await server.bus.kept()).events_count == 2
    assert (await events.consumer_info()).num_ack_pending == 1


async def test_what_the_mesh_needs_is_all_that_its_user_may(server: Server) -> None:
    client, refusals = await server.connect("TRINE")
    for subject in (">", "_INBOX_acme.>", "$JS.>", "$SYS.>", "trine.>"):
        await client.subscribe(subject)
    await refused(refusals, "subscription", (">", "_INBOX_acme.>", "$JS.>", "$SYS.>", "trine.>"))
    refusals.clear()
    forbidden = [subject for subject in SAID_BY_NOBODY if not subject.startswith("trine.")]
    forbidden += ["trine.other", "$JS.ACK.TRINE_EVENTS.globex_1.1.1.1.1.1"]
    for subject in forbidden:
        await client.publish(subject, b"{}")
    await refused(refusals, "publish", forbidden)
    await server.bus.purge()
    await server.tell("acme")
    assert (await server.bus.kept()).events_count == 1
    assert await server.bus.last(OWN) == OWN.encode()


async def test_serving_hears_no_more_than_it_needs_and_says_nothing(server: Server) -> None:
    client, refusals = await server.connect("SERVING")
    for subject in HEARD_BY_NOBODY:
        await client.subscribe(subject)
    await refused(refusals, "subscription", HEARD_BY_NOBODY)
    refusals.clear()
    for subject in SAID_BY_NOBODY:
        await client.publish(subject, b"{}")
    await refused(refusals, "publish", SAID_BY_NOBODY)


async def test_a_tenant_says_no_event(server: Server) -> None:
    client, refusals = await server.connect("acme")
    said = [subject for subject in SAID_BY_NOBODY if not subject.startswith("$JS.")]
    for subject in said:
        await client.publish(subject, b"{}")
    await refused(refusals, "publish", said)


async def test_a_tenant_that_comes_later_reads_its_own_and_disturbs_nobody(server: Server) -> None:
    client, refusals = await server.connect("acme")
    heard = await listen(client, "trine.events.v1.>")
    events = await client.jetstream(domain=DOMAIN).pull_subscribe(
        OWN_ALL, durable="acme_1", stream=STREAM
    )
    await events.fetch(1, timeout=5)
    waiting = asyncio.create_task(events.fetch(1, timeout=5))  # asked before, answered after
    await asyncio.sleep(0.1)
    telling = asyncio.create_task(server.tell("acme", 200))
    await server.tell("initech")
    server.change(initech="first")
    fetched = subjects_of(await waiting)
    await joined(server, "initech")
    late, _ = await server.connect("initech")
    assert subjects_of(await fetch_events(late, "initech")) == [
        "trine.events.v1.run.completed.initech.dating"
    ]
    late_heard = await listen(late, ">")
    await server.tell("initech")
    await until(lambda: bool(late_heard))
    await telling
    while len(fetched) < 200:
        fetched += subjects_of(await events.fetch(200, timeout=5))
    await until(lambda: len(heard) == 200)
    assert fetched == [OWN] * 200
    assert (refusals, client.is_connected) == ([], True)
    assert server.bus._client.stats["reconnects"] == 0


async def joined(server: Server, user: str) -> None:
    """Has the server read its users until it knows one."""
    async with asyncio.timeout(5):
        while not await is_welcome(server.url(user)):
            server.reload()
            await asyncio.sleep(0.1)


@pytest.mark.parametrize("password", [None, "another"])
async def test_who_loses_their_user_or_password_is_cut_off(
    server: Server, password: str | None
) -> None:
    old = server.url("acme")
    client, _ = await server.connect("acme")
    heard = await listen(client, "trine.events.v1.>")
    other, _ = await server.connect("globex")
    others = await listen(other, "trine.events.v1.>")
    server.change(acme=password)
    await until(lambda: client.is_closed)
    assert await is_welcome(old) is False
    await server.tell("acme")
    await server.tell("globex")
    await until(lambda: bool(others))
    assert (subjects_of(others), heard) == ([OTHERS], [])
    assert other.is_connected
    server.change(acme="new")
    await joined(server, "acme")
    again, _ = await server.connect("acme")
    assert subjects_of(await fetch_events(again, "acme")) == [OWN, OWN]


async def test_what_was_stored_before_there_were_accounts_is_kept(tmp_path: Path) -> None:
    home, known = prepare_home(tmp_path), Secrets()
    port, monitor_port = free_ports(2)
    url = mesh_url(f"127.0.0.1:{port}", known)
    config = home.config / "nats.conf"

    async def with_bus(config_text: str, work: Any) -> Any:
        spec = programs.nats(home, port, monitor_port, known)
        config.write_text(config_text or config.read_text())
        child = Child(spec, lambda: None)
        await child.start()
        try:
            await child.until_ready(READY_SECONDS_MAX)
            async with open_bus(url) as bus:
                return await work(bus)
        finally:
            await child.stop()

    async def store(bus: NatsBus) -> None:
        await bus.declare_stream()
        await bus.publish(OWN, b"kept", "1")

    user = f'{{ user: "TRINE", password: "{known.nats_password}" }}'
    before = f'listen: "127.0.0.1:{port}"\nhttp: "127.0.0.1:{monitor_port}"\n'
    before += f'jetstream {{ store_dir: "{home.nats}" }}\nauthorization {{ users: [{user}] }}\n'
    await with_bus(before, store)
    assert await with_bus("", lambda bus: bus.last(OWN)) == b"kept"

"""What tenants hear on NATS, read as any of their programs would."""

from contextlib import suppress

import nats
import nats.js.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import AckPolicy

from services.chassis.bus import STREAM
from services.mesh.nats_users import DOMAIN


async def read_events(url: str, tenant: str, subject: str = "") -> list[Msg]:
    """All events that a tenant can read at the moment, or those of a subject, oldest first."""
    client = await nats.connect(url)
    try:
        return await fetch_events(client, tenant, subject)
    finally:
        await client.close()


async def fetch_events(client: Client, tenant: str, subject: str = "") -> list[Msg]:
    """The same over a connection that is there, by the last of the tenant's consumers."""
    name, wanted = f"{tenant}_4", subject or f"trine.events.v1.*.*.{tenant}.>"
    jetstream = client.jetstream(domain=DOMAIN, timeout=1)
    with suppress(nats.js.errors.NotFoundError):  # nobody has read, or since the stream was lost
        await jetstream.delete_consumer(STREAM, name)
    made = await jetstream.add_consumer(
        STREAM, name=name, filter_subject=wanted, ack_policy=AckPolicy.NONE
    )
    events = await jetstream.pull_subscribe_bind(consumer=name, stream=STREAM)
    found: list[Msg] = []
    while len(found) < (made.num_pending or 0):
        found += await events.fetch(100, timeout=5)
    return found

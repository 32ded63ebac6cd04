"""What an operator asks about listening: a tenant given its user of NATS, or its user taken away.

The secrets keep the users; the supervisor, told by SIGHUP, has NATS read them without a restart.
"""

import asyncio
import dataclasses
import os
import secrets
import signal
from urllib.parse import urlsplit

import nats.errors
from nats.aio.client import Client
from trine.gateway.v1 import access_service_pb2 as pb
from trine.gateway.v1 import access_service_pb2_grpc

from services.mesh.home import Home
from services.mesh.nats_users import DOMAIN, tenant_account, tenant_url
from services.mesh.operator import NoMeshError, channel_to

TAKEN_SECONDS_MAX = 10.0
"""NATS reads its users in milliseconds; being started again takes it some seconds."""
READING_SECONDS = 0.1
ANSWER_SECONDS_MAX = 2
_REFUSED = "authorization violation"


class SubscriberError(Exception):
    """It cannot be done; the message says why."""


async def add_subscriber(home: Home, tenant: str) -> str:
    """Gives a tenant its user of NATS, or a new password, and returns the address with it.

    Connections with a password from before end.

    Raises:
        NoMeshError: no mesh runs here.
        grpc.aio.AioRpcError: there is no such tenant, or its name is none that one could have.
        SubscriberError: NATS is not the mesh's own, or does not take it in time.
    """
    async with channel_to(home, "gateway") as channel:
        stub = access_service_pb2_grpc.AccessServiceStub(channel)
        await stub.GetTenant(pb.GetTenantRequest(tenant=tenant))
    address = _own_nats(home, tenant_account(tenant, "…"))
    with home.changing_secrets() as known:
        users = {**known.nats_subscribers, tenant: secrets.token_urlsafe()}
        changed = dataclasses.replace(known, nats_subscribers=users)
        home.write_secrets(changed)
        url = tenant_url(address, changed, tenant)
        await _until_taken(home, url, welcome=True)
    return url


async def remove_subscriber(home: Home, tenant: str) -> None:
    """Takes a tenant's user of NATS away; its connections end.

    Raises:
        NoMeshError: no mesh runs here.
        SubscriberError: the tenant has none, or NATS is not the mesh's own, or does not take it
            in time.
    """
    address = _own_nats(home)
    with home.changing_secrets() as known:
        users = dict(known.nats_subscribers)
        if tenant not in users:
            raise SubscriberError(f"{tenant!r} has no user of NATS.")
        del users[tenant]
        home.write_secrets(dataclasses.replace(known, nats_subscribers=users))
        await _until_taken(home, tenant_url(address, known, tenant), welcome=False)


def _own_nats(home: Home, account: str = "") -> str:
    """Where the mesh's own NATS is; to whom has another, what to give to a tenant there."""
    told = home.read_mesh()
    if told is None or not home.is_running():
        raise NoMeshError
    if "nats" not in told["pids"]:
        raise SubscriberError(
            "NATS is not this mesh's own (TRINE_NATS_URL): its users are made and removed there, "
            f"as deploy/nats/nats.conf has them.\n{account}".rstrip()
        )
    return urlsplit(str(told["nats"])).netloc.rpartition("@")[2]


async def _until_taken(home: Home, url: str, *, welcome: bool) -> None:
    """Has NATS read its users until an address is good, or is no more.

    Once is not enough for a tenant that had none: NATS 2.15 makes the account at the first reading
    and its imports at the second.
    """
    try:
        async with asyncio.timeout(TAKEN_SECONDS_MAX):
            while await is_welcome(url) is not welcome:
                supervisor = home.supervisor()
                if supervisor is None:
                    raise NoMeshError
                os.kill(supervisor, signal.SIGHUP)
                await asyncio.sleep(READING_SECONDS)
    except TimeoutError:
        raise SubscriberError(f"NATS does not take it: see {home.log('nats')}.") from None


async def is_welcome(url: str) -> bool | None:
    """Whether NATS lets in who has an address and answers them.

    None where that cannot be said: it is away, or lets them in and does not answer.
    """

    async def ignore(_: Exception) -> None:
        """It comes as an exception, too."""

    client = Client()
    try:
        await client.connect(
            url, allow_reconnect=False, connect_timeout=ANSWER_SECONDS_MAX, error_cb=ignore
        )
        await client.request(f"$JS.{DOMAIN}.API.STREAM.NAMES", b"", timeout=ANSWER_SECONDS_MAX)
    except (nats.errors.Error, OSError, TimeoutError) as error:
        return False if _REFUSED in str(error).lower() else None
    finally:
        await client.close()
    return True

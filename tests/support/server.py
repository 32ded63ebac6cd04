"""A service behind a real channel, with memory stores and callers of two tenants."""

import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import grpc

from services.chassis.api_key import HashedKey, mint_api_key
from services.chassis.auth import MESH_TOKEN_KEY, Authenticator, Grant
from services.chassis.clock import SystemClock
from services.chassis.errors import ErrorTable, read_error_info
from services.chassis.interceptors import CallInterceptor
from services.chassis.limits import CallLimits
from services.chassis.server import serving, set_health
from services.gateway.core.api_key import SCOPES

MESH_TOKEN = "mesh-secret"
ACME_KEY, _ACME = mint_api_key()
OTHER_KEY, _OTHER = mint_api_key()
GRANTS = {_ACME: Grant("acme", SCOPES, None), _OTHER: Grant("other", SCOPES, None)}

ACME = (("authorization", f"Bearer {ACME_KEY}"),)
"""Metadata of a caller of the tenant acme."""
OTHER = (("authorization", f"Bearer {OTHER_KEY}"),)
"""Metadata of a caller of another tenant."""
MESH = ((MESH_TOKEN_KEY, MESH_TOKEN),)
"""Metadata of the mesh itself."""


async def resolve(key: HashedKey) -> Grant | None:
    """As the gateway."""
    return GRANTS.get(key)


def free_port() -> int:
    """A port that nobody uses."""
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
    return port


def free_address() -> str:
    """An address where nobody listens."""
    return f"127.0.0.1:{free_port()}"


def generous() -> CallLimits:
    """Limits that no test meets by chance."""
    return CallLimits("*=100000", 10_000, SystemClock())


@asynccontextmanager
async def running(
    errors: ErrorTable,
    register: Callable[[grpc.aio.Server], None],
    names: list[str],
    address: str = "",
    limits: CallLimits | None = None,
) -> AsyncIterator[grpc.aio.Channel]:
    """Serves what `register` adds, at a free port unless told where, and yields a channel to it."""
    address = address or free_address()
    authenticator = Authenticator(resolve, MESH_TOKEN, SystemClock())
    interceptor = CallInterceptor(authenticator, errors, limits or generous())
    async with (
        serving(address, interceptor, names, register, None) as health,
        grpc.aio.insecure_channel(address) as channel,
    ):
        await set_health(health, names, serving=True)
        yield channel


class Refusal:
    """What a refused call answered."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        info = read_error_info(error)
        self.code = error.code()
        self.message = error.details() or ""
        self.reason = info.reason
        self.domain = info.domain
        self.metadata = dict(info.metadata)


async def refused(call: Awaitable[object]) -> Refusal:
    """Awaits a call that must be refused."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return Refusal(error)
    raise AssertionError(f"not refused: {answer}")

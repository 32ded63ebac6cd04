"""Who calls, and may they: API keys from outside, the mesh's own token from inside.

Each service checks its callers itself. An answer of the authority (the gateway) is used for up to 2
seconds as it is, up to 5 seconds while it is asked again behind the caller's back, and not at all
beyond: so a revoked key is dead everywhere within 5 seconds, and a call in steady state waits for
nobody. Good and bad answers are remembered apart, so that bad keys push out no good one, and asking
about a key that is not known to be good has its limits.
"""

import asyncio
import datetime
import hmac
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

import grpc
from google.protobuf import descriptor_pool
from trine.gateway.v1 import access_service_pb2, access_service_pb2_grpc, authorization_pb2

from services.chassis.api_key import HashedKey, parse_api_key
from services.chassis.author import (
    THE_MESH,
    Author,
    key_author,
    mesh_author,
    set_current_author,
)
from services.chassis.clock import Clock
from services.chassis.errors import PublicError, RefusedError
from services.chassis.limits import Guesses, calling_network

MESH_TOKEN_KEY = "trine-mesh-token"  # noqa: S105  # the header's name, not its value
FRESH_SECONDS = 2.0
VALID_SECONDS = 5.0
CACHE_ENTRIES_MAX = 10_000
"""Of good keys, and of bad ones."""
FORWARDED_KEY = "x-forwarded-for"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who is calling. The mesh itself has no tenant and no scopes."""

    tenant: str
    scopes: frozenset[str]
    author: Author = field(default=THE_MESH, compare=False)


@dataclass(frozen=True, slots=True)
class Grant:
    """What the authority says of a good key."""

    tenant: str
    scopes: frozenset[str]
    expire_time: datetime.datetime | None


Resolve = Callable[[HashedKey], Awaitable[Grant | None]]
"""Asks the authority about a key: its grant, or None for a bad key. An exception: cannot tell."""

MESH = Caller("", frozenset())
_current_caller: ContextVar[Caller] = ContextVar("caller")


class AccessDeniedError(RefusedError):
    """Who calls may not."""


def current_tenant() -> str:
    """The tenant whose key the running call carries."""
    return _current_caller.get().tenant


def set_current_caller(caller: Caller) -> None:
    """Remembers the caller for the rest of the running call."""
    _current_caller.set(caller)
    set_current_author(caller.author)


def required_scope(method: str) -> str:
    """The scope that an RPC ("/package.Service/Method") declares; empty for an internal one."""
    service, _, name = method.removeprefix("/").partition("/")
    descriptor = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    return str(descriptor.GetOptions().Extensions[authorization_pb2.required_scope])


def resolver(channel: grpc.aio.Channel) -> Resolve:
    """Asks the gateway."""
    stub = access_service_pb2_grpc.AccessServiceStub(channel)

    async def resolve(key: HashedKey) -> Grant | None:
        request = access_service_pb2.ResolveApiKeyRequest(
            key_id=key.key_id, secret_hash=key.secret_hash
        )
        try:
            response = await stub.ResolveApiKey(request)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return None
            raise
        expires = response.HasField("expire_time")
        expire_time = response.expire_time.ToDatetime(datetime.UTC) if expires else None
        return Grant(response.tenant, frozenset(response.scopes), expire_time)

    return resolve


@dataclass(slots=True)
class _Entry:
    grant: Grant | None
    confirmed_at: float


class Authenticator:
    """Turns a call's metadata into a caller, or denies it."""

    def __init__(self, resolve: Resolve, mesh_token: str, clock: Clock) -> None:
        self._resolve = resolve
        self._mesh_token = mesh_token.encode()
        self._clock = clock
        self._good: OrderedDict[HashedKey, _Entry] = OrderedDict()
        self._bad: OrderedDict[HashedKey, _Entry] = OrderedDict()
        self._guesses = Guesses(clock)
        self._asking: dict[HashedKey, asyncio.Task[Grant | None]] = {}

    async def authenticate(self, metadata: Mapping[str, str], scope: str) -> Caller:
        """Returns the caller of an RPC that needs `scope`; an empty scope admits the mesh alone.

        Raises:
            RefusedError: says why in public words.
        """
        if not scope:
            token = metadata.get(MESH_TOKEN_KEY, "")
            if hmac.compare_digest(token.encode(), self._mesh_token):
                return Caller("", frozenset(), mesh_author(metadata))
            raise _denied(
                grpc.StatusCode.PERMISSION_DENIED, "INTERNAL_RPC", "This RPC is internal."
            )
        key = parse_api_key(_bearer(metadata))
        grant = await self._grant(key, metadata.get(FORWARDED_KEY, ""))
        if key is None or grant is None or self._expired(grant):
            raise _denied(
                grpc.StatusCode.UNAUTHENTICATED,
                "API_KEY_INVALID",
                "The API key is malformed, unknown, revoked or expired.",
            )
        if scope not in grant.scopes:
            message = f"The API key lacks the scope {scope}."
            raise _denied(grpc.StatusCode.PERMISSION_DENIED, "SCOPE_MISSING", message, scope=scope)
        return Caller(grant.tenant, grant.scopes, key_author(key.key_id, metadata))

    async def _grant(self, key: HashedKey | None, forwarded: str) -> Grant | None:
        if key is None:
            return None
        entry = self._good.get(key) or self._bad.get(key)
        age = self._clock.monotonic() - entry.confirmed_at if entry else VALID_SECONDS
        if entry and age < FRESH_SECONDS:
            return entry.grant
        asking = self._asking.get(key) or self._ask(key, calling_network(forwarded))
        if entry and age < VALID_SECONDS:
            return entry.grant
        try:
            return await asyncio.shield(asking)
        except Exception as error:
            message = "API keys cannot be checked at the moment. Try again."
            raise _denied(grpc.StatusCode.UNAVAILABLE, "AUTHORITY_UNAVAILABLE", message) from error

    def _ask(self, key: HashedKey, address: str) -> asyncio.Task[Grant | None]:
        if key not in self._good:
            self._guesses.spend(address, key.key_id)
        task = asyncio.create_task(self._refresh(key, address))
        self._asking[key] = task
        task.add_done_callback(lambda done: self._asked(key, done))
        return task

    async def _refresh(self, key: HashedKey, address: str) -> Grant | None:
        asked_at, counted, wrong = self._clock.monotonic(), key not in self._good, False
        try:
            grant = await self._resolve(key)
            wrong = grant is None
        finally:
            if counted and not wrong:  # it is good, or nobody could tell
                self._guesses.give_back(address, key.key_id)
        entries, others = (self._bad, self._good) if grant is None else (self._good, self._bad)
        others.pop(key, None)
        entries[key] = _Entry(grant, asked_at)
        entries.move_to_end(key)
        if len(entries) > CACHE_ENTRIES_MAX:
            entries.popitem(last=False)
        return grant

    def _asked(self, key: HashedKey, task: asyncio.Task[Grant | None]) -> None:
        del self._asking[key]
        if not task.cancelled():
            task.exception()  # whoever waited has seen it; nobody else needs a warning

    def _expired(self, grant: Grant) -> bool:
        return grant.expire_time is not None and grant.expire_time <= self._clock.now()


def _bearer(metadata: Mapping[str, str]) -> str:
    header = metadata.get("authorization", "")
    kind, _, text = header.partition(" ")
    if kind.lower() != "bearer" or not text:
        message = 'Send an API key in the header "Authorization: Bearer <key>".'
        raise _denied(grpc.StatusCode.UNAUTHENTICATED, "API_KEY_MISSING", message)
    return text.strip()


def _denied(code: grpc.StatusCode, reason: str, message: str, **metadata: str) -> AccessDeniedError:
    return AccessDeniedError(PublicError(code, reason, message, metadata))

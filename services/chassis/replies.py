"""First answers, kept for a day in the transaction of their effect: a repeat gets the same one.

Two requests with the same id at once: the second waits at the primary key until
the first has committed, and then reads its answer. An answer about somebody says so, and can be
forgotten before its time; the id stays used up, so that no repeat undoes what made it forgotten.
"""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Protocol, TypeVar, cast

from google.protobuf.message import Message

from services.chassis.auth import current_tenant
from services.chassis.database import EVERYONE, Connection, Database
from services.chassis.interceptors import Context

Unit = TypeVar("Unit")
Response = TypeVar("Response", bound=Message)

REQUEST_ID_CHARACTERS_MAX = 255
KEEP_HOURS = 24


@dataclass(frozen=True, slots=True)
class RequestKey:
    """What makes a request the same request."""

    tenant: str
    request_id: str
    fingerprint: bytes


class RequestIdReusedError(Exception):
    """The id came before with another request, or with one whose answer has been forgotten."""

    def __init__(self, request_id: str) -> None:
        super().__init__(
            "The request_id came before with another request, or with one about what is erased."
        )
        self.metadata = {"request_id": request_id}


class RequestIdInvalidError(Exception):
    """The id is too long or not printable."""

    def __init__(self) -> None:
        rule = f"must have at most {REQUEST_ID_CHARACTERS_MAX} printable characters"
        super().__init__(f"request_id: {rule}.")
        self.metadata = {"field": "request_id", "rule": rule}


class Replies(Protocol):
    """First answers as a unit of work offers them."""

    async def recall(self, key: RequestKey) -> bytes | None:
        """Returns the first answer, or None and claims the id for this transaction.

        Raises:
            RequestIdReusedError: the id came before with another request.
        """
        ...

    async def remember(self, key: RequestKey, reply: bytes, about: str = "") -> None:
        """Keeps the answer of a claimed id, and whom it tells of."""
        ...

    async def forget(self, tenant: str, about: str) -> None:
        """Forgets the requests and answers about somebody, and keeps their ids used up."""
        ...


def request_key(
    method: str, tenant: str, request: Message, metadata: Mapping[str, str]
) -> RequestKey | None:
    """The key of a request with a `request_id` field; None when neither field nor header name one.

    Raises:
        RequestIdInvalidError: the id is too long or not printable.
    """
    request_id = str(getattr(request, "request_id")) or metadata.get("idempotency-key", "")  # noqa: B009  # any message
    if not request_id:
        return None
    if len(request_id) > REQUEST_ID_CHARACTERS_MAX or not request_id.isprintable():
        raise RequestIdInvalidError
    body = method.encode() + b"\0" + request.SerializeToString(deterministic=True)
    return RequestKey(tenant, request_id, hashlib.sha256(body).digest())


async def answer_once(
    opening: AbstractAsyncContextManager[Unit],
    request: Message,
    context: Context,
    kind: type[Response],
    act: Callable[[Unit], Awaitable[Response]],
    *,
    about: str = "",
) -> Response:
    """Runs `act` in a unit of work, unless the request's id already has its answer.

    The unit must offer `Replies`, bound to its own transaction. `about` names whom the answer
    tells of, so that it can be forgotten.
    """
    metadata = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
    key = request_key(kind.DESCRIPTOR.full_name, current_tenant(), request, metadata)
    async with opening as unit:
        if key is None:
            return await act(unit)
        replies = cast("Replies", unit)
        reply = await replies.recall(key)
        if reply is not None:
            return kind.FromString(reply)
        response = await act(unit)
        await replies.remember(key, response.SerializeToString(), about)
    return response


async def forget_answers(unit: object, about: str) -> None:
    """Forgets, in a unit that offers `Replies`, what the tenant was answered about somebody."""
    await cast("Replies", unit).forget(current_tenant(), about)


class PostgresReplies:
    """First answers in the caller's transaction."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    async def recall(self, key: RequestKey) -> bytes | None:
        """Returns the first answer, or None and claims the id."""
        claimed = await self._connection.fetchval(
            "insert into replies (tenant, request_id, fingerprint) values ($1, $2, $3) "
            "on conflict do nothing returning true",
            key.tenant,
            key.request_id,
            key.fingerprint,
        )
        if claimed:
            return None
        row = await self._connection.fetchrow(
            "select fingerprint, reply from replies where tenant = $1 and request_id = $2",
            key.tenant,
            key.request_id,
        )
        if row is None or row["fingerprint"] != key.fingerprint:
            raise RequestIdReusedError(key.request_id)
        return bytes(row["reply"])

    async def remember(self, key: RequestKey, reply: bytes, about: str = "") -> None:
        """Keeps the answer of a claimed id."""
        await self._connection.execute(
            "update replies set reply = $3, about = $4 where tenant = $1 and request_id = $2",
            key.tenant,
            key.request_id,
            reply,
            about,
        )

    async def forget(self, tenant: str, about: str) -> None:
        """Forgets the requests and answers about somebody."""
        await self._connection.execute(
            "update replies set fingerprint = '', reply = null, about = '' "
            "where tenant = $1 and about = $2 and about <> ''",
            tenant,
            about,
        )


async def prune_replies(database: Database) -> None:
    """Forgets answers older than a day."""
    await database.of(EVERYONE).execute(
        "delete from replies where create_time < now() - make_interval(hours => $1)", KEEP_HOURS
    )


@dataclass
class MemoryReplies:
    """First answers in a dictionary."""

    _replies: dict[tuple[str, str], tuple[bytes, bytes, str]] = field(default_factory=dict)

    async def recall(self, key: RequestKey) -> bytes | None:
        """Returns the first answer, or None."""
        known = self._replies.get((key.tenant, key.request_id))
        if known is None:
            return None
        if known[0] != key.fingerprint:
            raise RequestIdReusedError(key.request_id)
        return known[1]

    async def remember(self, key: RequestKey, reply: bytes, about: str = "") -> None:
        """Keeps the answer."""
        self._replies[key.tenant, key.request_id] = (key.fingerprint, reply, about)

    async def forget(self, tenant: str, about: str) -> None:
        """Forgets the requests and answers about somebody."""
        for key, (_, _, whom) in self._replies.items():
            if key[0] == tenant and about and whom == about:
                self._replies[key] = (b"", b"", "")

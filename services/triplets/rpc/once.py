"""Doing a request once: a repeat gets the first answer."""

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import Message

from services.chassis.auth import current_tenant
from services.chassis.replies import Replies, request_key
from services.triplets.core.ports import DomainUnit, TripletStore

Response = TypeVar("Response", bound=Message)


async def once(
    store: TripletStore,
    domain: str,
    *,
    request: Message,
    context: grpc.aio.ServicerContext[Any, Any],
    kind: type[Response],
    act: Callable[[DomainUnit], Awaitable[Response]],
) -> Response:
    """Runs `act` in a unit of the domain, unless the request's id already has its answer."""
    metadata = {k: v for k, v in context.invocation_metadata() or () if isinstance(v, str)}
    key = request_key(kind.DESCRIPTOR.full_name, current_tenant(), request, metadata)
    async with store.open_domain(current_tenant(), domain) as unit:
        if key is None:
            return await act(unit)
        replies: Replies = unit  # type: ignore[assignment]  # stores offer both; the core needs only one
        reply = await replies.recall(key)
        if reply is not None:
            return kind.FromString(reply)
        response = await act(unit)
        await replies.remember(key, response.SerializeToString())
    return response

"""Channels to the other services: calls have deadlines, carry the mesh's token, and are retried."""

import json
from collections.abc import Awaitable, Callable
from typing import Any

import grpc

from services.chassis.auth import MESH_TOKEN_KEY
from services.chassis.author import current_author
from services.chassis.certificates import Certificates

DEADLINE_SECONDS = 10.0
MESSAGE_BYTES_MAX = 4 * 1024 * 1024
PING_MILLISECONDS = 5_000
"""A connection that is quiet for so long asks whether the other side is still there, and is given
up if it has not been told in as long again: a network may forget it, and tells nobody."""

# A call that met a dead connection may have been carried out: every RPC inside the mesh may
# therefore be repeated.
_SERVICE_CONFIG = json.dumps(
    {
        "methodConfig": [
            {
                "name": [{}],
                "retryPolicy": {
                    "maxAttempts": 4,
                    "initialBackoff": "0.1s",
                    "maxBackoff": "1s",
                    "backoffMultiplier": 2,
                    "retryableStatusCodes": ["UNAVAILABLE"],
                },
            }
        ]
    }
)


_OPTIONS = (
    ("grpc.service_config", _SERVICE_CONFIG),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", PING_MILLISECONDS),
    ("grpc.keepalive_timeout_ms", PING_MILLISECONDS),
    # What ends a connection that is forgotten on the way; by default after a minute.
    ("grpc.http2.ping_timeout_ms", PING_MILLISECONDS),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),  # no limit
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1_000),
)


def open_channel(
    address: str, mesh_token: str, tls: Certificates | None = None
) -> grpc.aio.Channel:
    """A channel to one service. Close it by leaving its async context."""
    interceptors: list[grpc.aio.ClientInterceptor] = [
        _UnaryIdentity(mesh_token),
        _StreamIdentity(mesh_token),
    ]
    if tls is None:
        return grpc.aio.insecure_channel(address, options=_OPTIONS, interceptors=interceptors)
    credentials = tls.for_channel()
    return grpc.aio.secure_channel(
        address, credentials, options=_OPTIONS, interceptors=interceptors
    )


class _Identity:
    def __init__(self, mesh_token: str) -> None:
        self._pair = (MESH_TOKEN_KEY, mesh_token)

    def _details(
        self, details: grpc.aio.ClientCallDetails, timeout: float | None
    ) -> grpc.aio.ClientCallDetails:
        metadata = grpc.aio.Metadata(
            *(details.metadata or ()), self._pair, *current_author().as_metadata()
        )
        return grpc.aio.ClientCallDetails(
            method=details.method,
            timeout=timeout,
            metadata=metadata,
            credentials=details.credentials,
            wait_for_ready=details.wait_for_ready,
        )


class _UnaryIdentity(_Identity, grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        timeout = client_call_details.timeout or DEADLINE_SECONDS
        return await continuation(self._details(client_call_details, timeout), request)


class _StreamIdentity(_Identity, grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(
        self,
        continuation: Callable[[grpc.aio.ClientCallDetails, Any], Awaitable[Any]],
        client_call_details: grpc.aio.ClientCallDetails,
        request: Any,
    ) -> Any:
        # A stream that follows changes has no end, hence no deadline; keepalive notices a dead
        # peer.
        timeout = client_call_details.timeout
        return await continuation(self._details(client_call_details, timeout), request)

"""What an operator asks of API keys: one made, given a new secret, looked at, revoked."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf import duration_pb2
from trine.gateway.v1 import access_service_pb2 as pb
from trine.gateway.v1 import access_service_pb2_grpc

from services.mesh.home import Home
from services.mesh.operator import channel_to

SECONDS_PER_HOUR = 3_600


async def create_key(home: Home, tenant: str, scopes: Sequence[str]) -> pb.CreateApiKeyResponse:
    """Makes a key; without scopes it holds all."""
    async with _stub(home) as stub:
        request = pb.CreateApiKeyRequest(tenant=tenant, scopes=scopes)
        response: pb.CreateApiKeyResponse = await stub.CreateApiKey(request)
        return response


async def rotate_key(home: Home, key_id: str, overlap_hours: float) -> pb.RotateApiKeyResponse:
    """Gives a key a new secret; the one before stays good for some hours."""
    overlap = duration_pb2.Duration()
    overlap.FromNanoseconds(int(overlap_hours * SECONDS_PER_HOUR * 1e9))
    async with _stub(home) as stub:
        request = pb.RotateApiKeyRequest(key_id=key_id, overlap=overlap)
        response: pb.RotateApiKeyResponse = await stub.RotateApiKey(request)
        return response


async def show_key(home: Home, key_id: str) -> pb.GetApiKeyResponse:
    """What is known of a key, but for its secrets."""
    async with _stub(home) as stub:
        response: pb.GetApiKeyResponse = await stub.GetApiKey(pb.GetApiKeyRequest(key_id=key_id))
        return response


async def revoke_key(home: Home, key_id: str) -> None:
    """Ends a key: within five seconds nobody accepts it."""
    async with _stub(home) as stub:
        await stub.RevokeApiKey(pb.RevokeApiKeyRequest(key_id=key_id))


@asynccontextmanager
async def _stub(home: Home) -> AsyncIterator[Any]:
    async with channel_to(home, "gateway") as channel:
        yield access_service_pb2_grpc.AccessServiceStub(channel)

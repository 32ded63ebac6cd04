"""The health of the mesh as outsiders see it: Envoy routes the public health service here.

The gateway asks each service for its health once a second and repeats the answers under the names
of the public gRPC services; the empty name stands for all of them together.
"""

import asyncio
from collections.abc import Mapping

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis.server import NOT_SERVING, SERVING, Health

ASK_SECONDS = 1.0


class MeshHealth:
    """Follows the services' health."""

    def __init__(self, servicer: Health, owners: Mapping[str, grpc.aio.Channel]) -> None:
        """Takes, by full name of a public service, the channel to its owner."""
        self._servicer = servicer
        self._owners = owners

    async def refresh(self) -> None:
        """Asks everyone and repeats what they say."""
        asked = (self._ask(name, channel) for name, channel in self._owners.items())
        healthy = dict(zip(self._owners, await asyncio.gather(*asked), strict=True))
        healthy[""] = all(healthy.values())
        for name, is_healthy in healthy.items():
            await self._servicer.set(name, SERVING if is_healthy else NOT_SERVING)

    async def _ask(self, name: str, channel: grpc.aio.Channel) -> bool:
        request = health_pb2.HealthCheckRequest(service=name)
        try:
            response = await health_pb2_grpc.HealthStub(channel).Check(request, timeout=ASK_SECONDS)
        except grpc.aio.AioRpcError:
            return False
        return bool(response.status == SERVING)

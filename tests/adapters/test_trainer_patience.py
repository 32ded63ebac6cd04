"""A service that is away for a moment costs a trainer time, and not one of its run's attempts."""

import asyncio
from typing import Any, cast

import grpc
import pytest
from trine.triplets.v1 import snapshot_service_pb2 as pb
from trine.triplets.v1 import snapshot_service_pb2_grpc

from services.trainer import clients
from services.trainer.clients import TripletsClient
from tests.support.attempts import leased
from tests.support.server import free_address


class Snapshots(snapshot_service_pb2_grpc.SnapshotServiceServicer):
    """Freezes nothing."""

    async def CreateSnapshot(  # noqa: N802
        self, request: pb.CreateSnapshotRequest, context: object
    ) -> pb.CreateSnapshotResponse:
        return pb.CreateSnapshotResponse(digest="ab" * 32)


async def test_a_snapshot_is_waited_for_until_the_triplet_store_is_there() -> None:
    address = free_address()
    async with grpc.aio.insecure_channel(address) as channel:
        asked = asyncio.create_task(TripletsClient(channel).create(leased()))
        await asyncio.sleep(2 * clients.LOOK_AGAIN_SECONDS)
        assert not asked.done()
        server = grpc.aio.server()
        made = cast("Any", Snapshots)()  # of its methods one is asked
        snapshot_service_pb2_grpc.add_SnapshotServiceServicer_to_server(made, server)
        server.add_insecure_port(address)
        await server.start()
        try:
            assert await asyncio.wait_for(asked, 10) == "ab" * 32
        finally:
            await server.stop(None)


async def test_a_store_that_stays_away_costs_the_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clients, "AWAY_SECONDS_MAX", 0.0)
    async with grpc.aio.insecure_channel(free_address()) as channel:
        with pytest.raises(grpc.aio.AioRpcError):
            await TripletsClient(channel).create(leased())

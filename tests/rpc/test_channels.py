"""Channels between services, when the network has forgotten the connection below."""

import asyncio
import time

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from services.chassis import channel as channels
from services.chassis import server as servers
from services.chassis.channel import PING_MILLISECONDS, open_channel
from tests.support.fault_proxy import FaultProxy
from tests.support.server import MESH_TOKEN, free_port, running

SOON_MILLISECONDS = 400
RECOVERED_SECONDS_MAX = 10


async def test_a_forgotten_connection_is_given_up_after_two_pings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sooner = tuple(
        (name, SOON_MILLISECONDS if value == PING_MILLISECONDS else value)
        for name, value in channels._OPTIONS
    )
    monkeypatch.setattr(channels, "_OPTIONS", sooner)
    monkeypatch.setattr(servers, "PING_MILLISECONDS", SOON_MILLISECONDS)
    port = free_port()
    link = FaultProxy(port)
    try:
        async with (
            running({}, lambda _: None, [], f"127.0.0.1:{port}"),
            open_channel(f"127.0.0.1:{link.port}", MESH_TOKEN) as channel,
        ):
            stub = health_pb2_grpc.HealthStub(channel)
            await stub.Check(health_pb2.HealthCheckRequest(), wait_for_ready=True)
            link.forget()
            forgotten = time.monotonic()
            while not await answered(stub):
                assert time.monotonic() - forgotten < RECOVERED_SECONDS_MAX
    finally:
        link.close()


async def answered(stub: health_pb2_grpc.HealthStub) -> bool:
    """Whether a call by somebody without much patience is answered."""
    try:
        await stub.Check(health_pb2.HealthCheckRequest(), timeout=0.3)
    except grpc.aio.AioRpcError:
        await asyncio.sleep(0.05)
        return False
    return True

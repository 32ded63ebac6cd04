"""Mutations of what lets the mesh recover by itself from faults around it."""

from tests.long.mutation import Mutation

FAULT_MUTATIONS = (
    Mutation(
        invariant="I1",
        name="NATS acknowledges before its disk has written",
        path="deploy/nats/nats.conf",
        old="sync_interval: always\n",
        new="sync_interval: 120s\n",
        test="tests/adapters/test_power_cuts.py",
    ),
    Mutation(
        invariant="I5",
        name="a connection over which nothing comes any more is waited for",
        path="services/chassis/database.py",
        old="async with asyncio.timeout(ANSWER_SECONDS_MAX):",
        new="async with asyncio.timeout(None):",
        test="tests/contract/test_database.py",
    ),
    Mutation(
        invariant="I5",
        name="an answer to a ping between services is waited for as long as gRPC likes",
        path="services/chassis/channel.py",
        old='    ("grpc.http2.ping_timeout_ms", PING_MILLISECONDS),\n',
        new="",
        test="tests/rpc/test_channels.py",
    ),
)

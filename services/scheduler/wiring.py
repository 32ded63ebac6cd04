"""Builds the scheduler from its parts."""

import datetime
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from functools import partial

import grpc
import structlog
from trine.scheduler.v1 import (
    file_run_service_pb2_grpc,
    head_service_pb2_grpc,
    lease_service_pb2_grpc,
    matching_service_pb2_grpc,
    model_catalog_service_pb2_grpc,
    promotion_service_pb2_grpc,
    rollout_service_pb2_grpc,
    run_service_pb2_grpc,
    shared_domain_service_pb2_grpc,
    stream_service_pb2_grpc,
    training_service_pb2_grpc,
)

from services.chassis.auth import Authenticator, resolver
from services.chassis.bus import KeepingBus, open_bus, refuse_forgetful
from services.chassis.certificates import certificates_of
from services.chassis.channel import open_channel
from services.chassis.clock import Clock, SystemClock
from services.chassis.crashpoint import crashpoint
from services.chassis.database import EVERYONE, Database, open_database
from services.chassis.interceptors import CallInterceptor
from services.chassis.invariants import SERVICE as INVARIANTS
from services.chassis.invariants import Invariants, add_invariants
from services.chassis.limits import CallLimits
from services.chassis.outbox import OutboxRelay
from services.chassis.replies import prune_replies
from services.chassis.server import exposing_metrics, serving, set_health, until_signal
from services.chassis.stream import keep_stream, rebuild_stream, stream_rule, syncs_rule
from services.chassis.tasks import background, every
from services.scheduler.artifacts import open_manifests
from services.scheduler.clients import TripletsClient
from services.scheduler.config import Config
from services.scheduler.core.advance_rollouts import advance_rollouts
from services.scheduler.core.drop_snapshots import drop_snapshots
from services.scheduler.core.lease_run import expire_leases
from services.scheduler.core.ports import Manifests, SchedulerStore, TripletCounts
from services.scheduler.core.tell_trained import tell_trained
from services.scheduler.core.train_domain import consider_training
from services.scheduler.core.training_policy import TrainingPolicy
from services.scheduler.database_clock import DatabaseClock
from services.scheduler.events import head_event, rollout_event, run_event
from services.scheduler.invariants import scheduler_rules
from services.scheduler.metrics import LEASES_EXPIRED, show_rollouts, show_runs
from services.scheduler.postgres import MIGRATIONS, SCHEMA, PostgresSchedulerStore
from services.scheduler.rpc.errors import ERRORS
from services.scheduler.rpc.files import FileRunServicer, ModelCatalogServicer
from services.scheduler.rpc.heads import HeadServicer, PromotionServicer
from services.scheduler.rpc.leases import LeaseServicer
from services.scheduler.rpc.matching import MatchingServicer
from services.scheduler.rpc.rollouts import RolloutServicer
from services.scheduler.rpc.runs import RunServicer
from services.scheduler.rpc.shared_domains import SharedDomainServicer
from services.scheduler.rpc.streams import StreamServicer
from services.scheduler.rpc.training import TrainingServicer

NAMES = [
    f"trine.scheduler.v1.{noun}Service"
    for noun in (
        "FileRun",
        "Head",
        "Lease",
        "Matching",
        "ModelCatalog",
        "Promotion",
        "Rollout",
        "Run",
        "SharedDomain",
        "Stream",
        "Training",
    )
]
CONSIDER_SECONDS = 1.0
REAP_SECONDS = 1.0
ROLLOUT_SECONDS = 1.0
DROP_SECONDS = 5.0
CLOCK_SECONDS = 5.0
PRUNE_SECONDS = 3600.0

_log = structlog.get_logger()


def register(
    server: grpc.aio.Server,
    store: SchedulerStore,
    triplets: TripletCounts,
    manifests: Manifests,
    clock: Clock,
    *,
    policy: TrainingPolicy,
    lease_seconds: float,
) -> None:
    """Puts all servicers on a server."""
    file_run_service_pb2_grpc.add_FileRunServiceServicer_to_server(
        FileRunServicer(store, triplets, clock), server
    )
    head_service_pb2_grpc.add_HeadServiceServicer_to_server(
        HeadServicer(store, triplets, manifests, clock), server
    )
    lease_service_pb2_grpc.add_LeaseServiceServicer_to_server(
        LeaseServicer(store, manifests, clock, lease_seconds), server
    )
    matching_service_pb2_grpc.add_MatchingServiceServicer_to_server(
        MatchingServicer(store, triplets), server
    )
    model_catalog_service_pb2_grpc.add_ModelCatalogServiceServicer_to_server(
        ModelCatalogServicer(store, triplets), server
    )
    promotion_service_pb2_grpc.add_PromotionServiceServicer_to_server(
        PromotionServicer(store), server
    )
    rollout_service_pb2_grpc.add_RolloutServiceServicer_to_server(
        RolloutServicer(store, triplets, clock), server
    )
    run_service_pb2_grpc.add_RunServiceServicer_to_server(RunServicer(store, clock), server)
    shared_domain_service_pb2_grpc.add_SharedDomainServiceServicer_to_server(
        SharedDomainServicer(store, triplets, clock, policy), server
    )
    training_service_pb2_grpc.add_TrainingServiceServicer_to_server(
        TrainingServicer(store, triplets, policy), server
    )


def add_stream(server: grpc.aio.Server, rebuild: Callable[[], Awaitable[int]]) -> None:
    """Puts the servicer of the stream on a server."""
    stream_service_pb2_grpc.add_StreamServiceServicer_to_server(StreamServicer(rebuild), server)


def make_invariants(
    config: Config, database: Database, bus: KeepingBus, manifests: Manifests
) -> Invariants:
    """Everything that the scheduler can check."""
    rules = scheduler_rules(database, manifests, config.lease_seconds)
    return Invariants([*rules, stream_rule(database, bus), syncs_rule(config.nats_monitor_url)])


async def reap(store: PostgresSchedulerStore) -> None:
    """Takes runs back from trainers that have gone silent, and shows where all stand."""
    async with store.begin(EVERYONE) as unit:
        expired = await expire_leases(unit)
        for _ in expired:
            crashpoint("scheduler.expiry.written")
    LEASES_EXPIRED.inc(len(expired))
    show_runs(await store.run_counts())


async def run_scheduler(config: Config) -> None:
    """Serves until a signal."""
    steady, tls = SystemClock(), certificates_of(config)
    policy = TrainingPolicy(
        triplets_budget=config.triplets_budget,
        cool_down=datetime.timedelta(seconds=config.cool_down_seconds),
    )
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stack.enter_context(exposing_metrics(config.metrics_address))
        database = await enter(open_database(config.postgres_dsn, SCHEMA, MIGRATIONS))
        clock = DatabaseClock(database, steady)
        await clock.ask()
        await refuse_forgetful(config.nats_monitor_url)
        bus = await enter(open_bus(config.nats_url))
        await bus.declare_stream()
        relay = OutboxRelay(database, bus)
        store = PostgresSchedulerStore(database, run_event, head_event, rollout_event, relay.wake)
        gateway = await enter(open_channel(config.gateway_address, config.mesh_token, tls))
        channel = await enter(open_channel(config.triplets_address, config.mesh_token, tls))
        triplets = TripletsClient(channel)
        manifests = open_manifests(config.artifacts_url, config.bundle_public_key)
        authenticator = Authenticator(resolver(gateway), config.mesh_token, steady)
        limits = CallLimits(config.rates, config.calls_at_once, steady)
        invariants = make_invariants(config, database, bus, manifests)

        def add(server: grpc.aio.Server) -> None:
            seconds = config.lease_seconds
            register(
                server, store, triplets, manifests, clock, policy=policy, lease_seconds=seconds
            )
            add_stream(server, partial(rebuild_stream, database, bus))
            add_invariants(server, invariants)

        names = [*NAMES, INVARIANTS]
        interceptor = CallInterceptor(authenticator, ERRORS, limits)
        health = await enter(serving(config.grpc_address, interceptor, names, add, tls))

        async def consider() -> None:
            # In this order: what a finished run trained on must not count as pending again.
            await tell_trained(store, triplets)
            for run in await consider_training(store, triplets, clock, policy):
                _log.info("run_queued", run_id=run.run_id, tenant=run.job.tenant)

        async def drop() -> None:
            for digest in await drop_snapshots(store, triplets):
                _log.info("snapshot_dropped", digest=digest)

        async def roll_out() -> None:
            show_rollouts(await advance_rollouts(store, triplets, clock))

        await enter(
            background(
                relay.run(),
                keep_stream(database, bus),
                invariants.watch(),
                every(CONSIDER_SECONDS, "consider_training", consider),
                every(REAP_SECONDS, "expire_leases", partial(reap, store)),
                every(ROLLOUT_SECONDS, "advance_rollouts", roll_out),
                every(DROP_SECONDS, "drop_snapshots", drop),
                every(CLOCK_SECONDS, "ask_clock", clock.ask),
                every(PRUNE_SECONDS, "prune_replies", lambda: prune_replies(database)),
            )
        )
        await set_health(health, names, serving=True)
        await until_signal()

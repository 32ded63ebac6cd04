"""Builds the gateway from its parts."""

from contextlib import AsyncExitStack
from pathlib import Path

import grpc
from trine.gateway.v1 import access_service_pb2_grpc

from services.chassis.api_key import HashedKey
from services.chassis.artifacts import open_artifacts
from services.chassis.auth import Authenticator, Grant, Resolve
from services.chassis.certificates import certificates_of
from services.chassis.channel import open_channel
from services.chassis.clock import SystemClock
from services.chassis.database import open_database
from services.chassis.interceptors import CallInterceptor
from services.chassis.invariants import SERVICE as INVARIANTS
from services.chassis.invariants import Invariants, add_invariants
from services.chassis.limits import CallLimits
from services.chassis.server import exposing_metrics, serving, set_health, until_signal
from services.chassis.tasks import background, every
from services.gateway.clients import SchedulerRuns, ServingModels
from services.gateway.config import Config
from services.gateway.core.announce_jobs import announce_jobs
from services.gateway.core.create_job import adopt_jobs
from services.gateway.core.deliver_events import deliver_due
from services.gateway.core.errors import KeyInvalidError
from services.gateway.core.expire_files import expire_files
from services.gateway.core.ports import Clock, KeyStore
from services.gateway.core.resolve_api_key import resolve_api_key
from services.gateway.core.track_run import track_jobs
from services.gateway.core.upload import UPLOAD_BYTES_MAX
from services.gateway.facades.archetype.dialects import dialects as archetype_dialects
from services.gateway.facades.openai.dialects import dialects
from services.gateway.facades.openai.webhooks import Webhooks
from services.gateway.health import ASK_SECONDS, MeshHealth
from services.gateway.http import listening
from services.gateway.invariants import gateway_rules
from services.gateway.postgres import (
    MIGRATIONS,
    SCHEMA,
    PostgresFileStore,
    PostgresJobStore,
    PostgresKeyStore,
    PostgresWebhookStore,
)
from services.gateway.rpc import ERRORS, AccessServicer
from services.gateway.sender import open_sender
from services.gateway.wandb import OfflineWandb

NAME = "trine.gateway.v1.AccessService"
ADOPT_SECONDS = 5.0
ANNOUNCE_SECONDS = 2.0
TRACK_SECONDS = 300.0
DELIVER_SECONDS = 1.0
EXPIRE_SECONDS = 60.0
DROP_SECONDS = 3_600.0


async def run_gateway(config: Config) -> None:
    """Serves until a signal."""
    clock, tls = SystemClock(), certificates_of(config, config.http_address)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stack.enter_context(exposing_metrics(config.metrics_address))
        database = await enter(open_database(config.postgres_dsn, SCHEMA, MIGRATIONS))
        store = PostgresKeyStore(database)
        authenticator = Authenticator(_local_resolver(store, clock), config.mesh_token, clock)
        limits = CallLimits(config.rates, config.calls_at_once, clock)

        invariants = Invariants(gateway_rules(database))

        def register(server: grpc.aio.Server) -> None:
            servicer = AccessServicer(store, clock)
            access_service_pb2_grpc.add_AccessServiceServicer_to_server(servicer, server)
            add_invariants(server, invariants)

        names = [NAME, INVARIANTS]
        interceptor = CallInterceptor(authenticator, ERRORS, limits)
        servicer = await enter(serving(config.grpc_address, interceptor, names, register, tls))
        scheduler = await enter(open_channel(config.scheduler_address, config.mesh_token, tls))
        triplets = await enter(open_channel(config.triplets_address, config.mesh_token, tls))
        match = await enter(open_channel(config.serving_address, config.mesh_token, tls))
        files, jobs = PostgresFileStore(database), PostgresJobStore(database)
        contents, runs = open_artifacts(config.artifacts_url), SchedulerRuns(scheduler)
        webhooks, tracker = PostgresWebhookStore(database), OfflineWandb(Path(config.wandb_dir))
        sender = await enter(open_sender(config.webhook_networks))
        hooks = Webhooks(webhooks, sender, clock)
        shared = (files, jobs, runs, contents, clock)
        most, secret = min(config.upload_bytes_max, UPLOAD_BYTES_MAX), config.mesh_token.encode()
        spoken = [
            *dialects(
                *shared,
                webhooks=hooks,
                inference=ServingModels(match),
                tracker=tracker,
                upload_bytes_max=most,
            ),
            *archetype_dialects(*shared, secret=secret, upload_bytes_max=most),
        ]
        await enter(listening(config.http_address, authenticator, ERRORS, limits, spoken, tls=tls))
        await set_health(servicer, names, serving=True)
        health = MeshHealth(servicer, _asked(scheduler, triplets, match))
        await enter(
            background(
                invariants.watch(),
                every(ASK_SECONDS, "mesh_health", health.refresh),
                every(DROP_SECONDS, "drop_unfinished", contents.drop_unfinished),
                every(ADOPT_SECONDS, "adopt_jobs", lambda: adopt_jobs(jobs, runs)),
                every(ANNOUNCE_SECONDS, "announce", lambda: announce_jobs(jobs, runs, webhooks)),
                every(TRACK_SECONDS, "track", lambda: track_jobs(jobs, runs, tracker, clock)),
                every(DELIVER_SECONDS, "webhooks", lambda: deliver_due(webhooks, sender, clock)),
                every(EXPIRE_SECONDS, "expire_files", lambda: expire_files(files, contents, clock)),
            )
        )
        await until_signal()


def _asked(
    scheduler: grpc.aio.Channel, triplets: grpc.aio.Channel, match: grpc.aio.Channel
) -> dict[str, grpc.aio.Channel]:
    """Whose health is the mesh's."""
    return {
        "trine.scheduler.v1.HeadService": scheduler,
        "trine.scheduler.v1.RolloutService": scheduler,
        "trine.scheduler.v1.RunService": scheduler,
        "trine.scheduler.v1.TrainingService": scheduler,
        "trine.serving.v1.MatchService": match,
        "trine.triplets.v1.OutcomeService": triplets,
        "trine.triplets.v1.SchemaService": triplets,
        "trine.triplets.v1.UserService": triplets,
    }


def _local_resolver(store: KeyStore, clock: Clock) -> Resolve:
    async def resolve(key: HashedKey) -> Grant | None:
        try:
            found = await resolve_api_key(
                store, clock, key_id=key.key_id, secret_hash=key.secret_hash
            )
        except KeyInvalidError:
            return None
        return Grant(found.tenant, found.scopes, found.expire_time)

    return resolve

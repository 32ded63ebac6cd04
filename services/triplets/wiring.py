"""Builds the triplet store from its parts."""

from contextlib import AsyncExitStack

import grpc
from trine.triplets.v1 import (
    domain_service_pb2_grpc,
    exposure_service_pb2_grpc,
    file_snapshot_service_pb2_grpc,
    label_service_pb2_grpc,
    outcome_service_pb2_grpc,
    profile_service_pb2_grpc,
    schema_service_pb2_grpc,
    sharing_service_pb2_grpc,
    snapshot_service_pb2_grpc,
    user_service_pb2_grpc,
)

from services.chassis.artifacts import open_artifacts
from services.chassis.auth import Authenticator, resolver
from services.chassis.certificates import certificates_of
from services.chassis.channel import open_channel
from services.chassis.chat import Chat
from services.chassis.clock import Clock, SystemClock
from services.chassis.database import open_database
from services.chassis.interceptors import CallInterceptor
from services.chassis.invariants import SERVICE as INVARIANTS
from services.chassis.invariants import Invariants, add_invariants
from services.chassis.limits import CallLimits
from services.chassis.replies import prune_replies
from services.chassis.server import exposing_metrics, serving, set_health, until_signal
from services.chassis.tasks import background, every
from services.triplets.artifacts import SafetensorsSnapshots
from services.triplets.clients import ServingEncoder
from services.triplets.config import Config
from services.triplets.core.exposure import ExposureStore
from services.triplets.core.extraction.extract import Extractor
from services.triplets.core.ports import CountingEncoder, FileShelf, TripletStore
from services.triplets.gazetteer import GeoNamesGazetteer
from services.triplets.invariants import triplet_rules
from services.triplets.postgres import MIGRATIONS, SCHEMA, PostgresTripletStore
from services.triplets.postgres.exposures import PostgresExposureStore
from services.triplets.reader import ChatReader
from services.triplets.rpc.domains import DomainServicer, SnapshotServicer
from services.triplets.rpc.errors import ERRORS
from services.triplets.rpc.exposures import ExposureServicer
from services.triplets.rpc.file_snapshots import FileSnapshotServicer
from services.triplets.rpc.labels import LabelServicer
from services.triplets.rpc.outcomes import OutcomeServicer
from services.triplets.rpc.profiles import ProfileServicer
from services.triplets.rpc.schemas import SchemaServicer
from services.triplets.rpc.sharing import SharingServicer
from services.triplets.rpc.users import UserServicer

NAMES = [
    f"trine.triplets.v1.{noun}Service"
    for noun in (
        *("Domain", "Exposure", "FileSnapshot", "Label", "Outcome", "Profile"),
        *("Schema", "Sharing", "Snapshot", "User"),
    )
]
PRUNE_SECONDS = 3600.0


def register(
    server: grpc.aio.Server,
    store: TripletStore,
    encoder: CountingEncoder,
    writer: FileShelf,
    clock: Clock,
    *,
    extractor: Extractor,
) -> None:
    """Puts all servicers on a server."""
    domain_service_pb2_grpc.add_DomainServiceServicer_to_server(DomainServicer(store), server)
    file_snapshot_service_pb2_grpc.add_FileSnapshotServiceServicer_to_server(
        FileSnapshotServicer(store, encoder, writer), server
    )
    label_service_pb2_grpc.add_LabelServiceServicer_to_server(LabelServicer(store), server)
    outcome_service_pb2_grpc.add_OutcomeServiceServicer_to_server(
        OutcomeServicer(store, clock), server
    )
    profile_service_pb2_grpc.add_ProfileServiceServicer_to_server(ProfileServicer(store), server)
    schema_service_pb2_grpc.add_SchemaServiceServicer_to_server(
        SchemaServicer(store, encoder), server
    )
    sharing_service_pb2_grpc.add_SharingServiceServicer_to_server(SharingServicer(store), server)
    snapshot_service_pb2_grpc.add_SnapshotServiceServicer_to_server(
        SnapshotServicer(store, writer), server
    )
    user_service_pb2_grpc.add_UserServiceServicer_to_server(
        UserServicer(store, encoder, extractor, clock), server
    )


def open_reader(config: Config) -> ChatReader | None:
    """The language model that reads fields out of texts, if one is configured."""
    if not config.reader_url:
        return None
    key, seconds = config.reader_key, config.reader_seconds
    return ChatReader(Chat(config.reader_url, config.reader_model, key, seconds))


def add_exposures(server: grpc.aio.Server, exposures: ExposureStore) -> None:
    """Puts the servicer of exposures on a server."""
    exposure_service_pb2_grpc.add_ExposureServiceServicer_to_server(
        ExposureServicer(exposures), server
    )


async def run_triplets(config: Config) -> None:
    """Serves until a signal."""
    clock, tls = SystemClock(), certificates_of(config)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stack.enter_context(exposing_metrics(config.metrics_address))
        database = await enter(open_database(config.postgres_dsn, SCHEMA, MIGRATIONS))
        gateway = await enter(open_channel(config.gateway_address, config.mesh_token, tls))
        match = await enter(open_channel(config.serving_address, config.mesh_token, tls))
        store = PostgresTripletStore(database)
        encoder = ServingEncoder(match, config.encoder, config.encoder_dim)
        extractor = Extractor(encoder, GeoNamesGazetteer(), open_reader(config))
        writer = SafetensorsSnapshots(open_artifacts(config.artifacts_url))
        exposures = PostgresExposureStore(database)
        invariants = Invariants(triplet_rules(database))

        def add(server: grpc.aio.Server) -> None:
            register(server, store, encoder, writer, clock, extractor=extractor)
            add_exposures(server, exposures)
            add_invariants(server, invariants)

        authenticator = Authenticator(resolver(gateway), config.mesh_token, clock)
        limits = CallLimits(config.rates, config.calls_at_once, clock)
        names = [*NAMES, INVARIANTS]
        interceptor = CallInterceptor(authenticator, ERRORS, limits)
        health = await enter(serving(config.grpc_address, interceptor, names, add, tls))
        await set_health(health, names, serving=True)
        await enter(
            background(
                invariants.watch(),
                every(PRUNE_SECONDS, "prune_replies", lambda: prune_replies(database)),
                every(PRUNE_SECONDS, "prune_exposures", exposures.prune),
            )
        )
        await until_signal()

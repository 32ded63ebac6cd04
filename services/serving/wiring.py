"""Builds serving from its parts."""

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, closing
from pathlib import Path

import grpc
from trine.serving.v1 import (
    encoder_service_pb2_grpc,
    loaded_head_service_pb2_grpc,
    match_service_pb2_grpc,
    model_service_pb2_grpc,
)

from services.chassis.artifacts import open_artifacts
from services.chassis.auth import Authenticator, resolver
from services.chassis.bus import open_bus
from services.chassis.certificates import certificates_of
from services.chassis.channel import open_channel
from services.chassis.chat import Chat
from services.chassis.clock import Clock, SystemClock
from services.chassis.interceptors import CallInterceptor
from services.chassis.invariants import SERVICE as INVARIANTS
from services.chassis.invariants import Invariants, add_invariants
from services.chassis.limits import CallLimits
from services.chassis.server import SERVING, exposing_metrics, serving, set_health, until_signal
from services.chassis.signatures import Verifier
from services.chassis.tasks import background, every
from services.serving.artifacts import ArtifactBundles
from services.serving.clients import (
    SchedulerGate,
    SchedulerModels,
    SchedulerPromotions,
    follow_profiles,
    report_challengers,
    send_exposures,
)
from services.serving.config import Config
from services.serving.core.exposure import ExposureLog
from services.serving.core.follow_profiles import ProfileFollower
from services.serving.core.models import ModelShelf
from services.serving.core.shadow import ShadowRanker, TrialJournal
from services.serving.core.swap_heads import HeadSwapper, Registry
from services.serving.encoder import OnnxEncoder
from services.serving.events import PromotionHints
from services.serving.index import FaissIndexBuilder
from services.serving.invariants import serving_rules
from services.serving.judge import ChatJudge
from services.serving.metrics import EXPOSURES_DROPPED, observe_shadow, observe_swap, show_registry
from services.serving.probe import Probe
from services.serving.rpc.encoder import EncoderServicer
from services.serving.rpc.errors import ERRORS
from services.serving.rpc.loaded_heads import LoadedHeadServicer
from services.serving.rpc.matches import MatchServicer
from services.serving.rpc.models import ModelServicer

ENCODER = "trine.serving.v1.EncoderService"
NAMES = [
    ENCODER,
    "trine.serving.v1.LoadedHeadService",
    "trine.serving.v1.MatchService",
    "trine.serving.v1.ModelService",
    INVARIANTS,
]
INDEX_SECONDS = 5.0
SHOW_SECONDS = 1.0


def register(
    server: grpc.aio.Server, registry: Registry, models: ModelShelf, matches: MatchServicer
) -> None:
    """Puts all servicers on a server."""
    encoder_service_pb2_grpc.add_EncoderServiceServicer_to_server(
        EncoderServicer(models.encoder), server
    )
    loaded_head_service_pb2_grpc.add_LoadedHeadServiceServicer_to_server(
        LoadedHeadServicer(registry), server
    )
    match_service_pb2_grpc.add_MatchServiceServicer_to_server(matches, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelServicer(models), server)


def open_judge(config: Config) -> ChatJudge | None:
    """The judge, if one is configured."""
    if not config.judge_url:
        return None
    key, seconds = config.judge_key, config.judge_seconds
    return ChatJudge(Chat(config.judge_url, config.judge_model, key, seconds))


def make_interceptor(config: Config, gateway: grpc.aio.Channel, clock: Clock) -> CallInterceptor:
    """What stands before every call."""
    authenticator = Authenticator(resolver(gateway), config.mesh_token, clock)
    limits = CallLimits(config.rates, config.calls_at_once, clock)
    return CallInterceptor(authenticator, ERRORS, limits)


def open_bundles(config: Config, stack: AsyncExitStack) -> ArtifactBundles:
    """The source of heads, and the process that they are tried in."""
    probe = stack.enter_context(closing(Probe()))
    probe.start()
    verifier = Verifier(config.bundle_public_key)
    return ArtifactBundles(open_artifacts(config.artifacts_url), verifier, probe)


async def run_serving(config: Config) -> None:
    """Serves until a signal."""
    clock, tls = SystemClock(), certificates_of(config)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stack.enter_context(exposing_metrics(config.metrics_address))
        bus = await enter(open_bus(config.nats_url))
        gateway = await enter(open_channel(config.gateway_address, config.mesh_token, tls))
        scheduler = await enter(open_channel(config.scheduler_address, config.mesh_token, tls))
        triplets = await enter(open_channel(config.triplets_address, config.mesh_token, tls))
        encoder = OnnxEncoder(config.encoder, Path(config.encoder_path), config.encoder_threads)
        registry, journal = Registry(clock), TrialJournal(observe_shadow)
        shadow = ShadowRanker(journal)
        bundles = open_bundles(config, stack)
        models = ModelShelf(SchedulerModels(scheduler), bundles, encoder, clock)
        swapper = HeadSwapper(
            registry,
            SchedulerPromotions(scheduler),
            bundles,
            FaissIndexBuilder(),
            clock,
            observe=observe_swap,
            journal=journal,
        )
        caught_up, synced = asyncio.Event(), asyncio.Event()
        executor = stack.enter_context(ThreadPoolExecutor(config.match_threads, "match"))
        exposures = ExposureLog(EXPOSURES_DROPPED.inc)
        matches = MatchServicer(
            registry,
            caught_up.is_set,
            executor,
            judge=open_judge(config),
            exposures=exposures,
            journal=journal,
            shadow=shadow,
            clock=clock,
        )
        interceptor = make_interceptor(config, gateway, clock)
        invariants = Invariants(serving_rules(registry, SchedulerGate(scheduler)))

        def add(server: grpc.aio.Server) -> None:
            register(server, registry, models, matches)
            add_invariants(server, invariants)

        health = await enter(serving(config.grpc_address, interceptor, NAMES, add, tls))
        hints = PromotionHints()
        await hints.listen(bus)

        async def sync() -> None:
            await caught_up.wait()  # a head is fitted to its domain's candidates
            await swapper.sync()

        follower = ProfileFollower(registry)
        await enter(
            background(
                encoder.run(),
                invariants.watch(),
                follow_profiles(triplets, follower, caught_up.set),
                send_exposures(triplets, exposures),
                shadow.run(),
                report_challengers(scheduler, journal, secrets.token_hex(16)),
                hints.follow(sync, synced.set),
                every(INDEX_SECONDS, "refresh_indexes", swapper.refresh_indexes),
                every(SHOW_SECONDS, "show_registry", lambda: show_registry(registry)),
            )
        )
        await health.set(ENCODER, SERVING)
        await synced.wait()
        await set_health(health, NAMES, serving=True)
        await until_signal()

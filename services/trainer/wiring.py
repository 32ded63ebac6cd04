"""Builds a trainer from its parts."""

import os
import socket
from contextlib import AsyncExitStack
from importlib import metadata

from services.chassis.api_key import HashedKey
from services.chassis.artifacts import open_artifacts
from services.chassis.auth import Authenticator, Grant
from services.chassis.certificates import certificates_of
from services.chassis.channel import open_channel
from services.chassis.clock import SystemClock
from services.chassis.interceptors import CallInterceptor
from services.chassis.limits import CallLimits
from services.chassis.server import exposing_metrics, serving, set_health, until_signal
from services.chassis.signatures import Signer, Verifier
from services.chassis.tasks import background
from services.trainer.artifacts import ArtifactHeads
from services.trainer.clients import SchedulerClient, TripletsClient
from services.trainer.config import Config
from services.trainer.jobs import Trainer
from services.trainer.learning.file_learner import TorchFileLearner
from services.trainer.learning.learner import TorchLearner


async def run_trainer(config: Config) -> None:
    """Trains until a signal. A run that is under way then is taken up by another trainer."""
    tls = certificates_of(config)
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stack.enter_context(exposing_metrics(config.metrics_address))
        scheduler = await enter(open_channel(config.scheduler_address, config.mesh_token, tls))
        triplets = await enter(open_channel(config.triplets_address, config.mesh_token, tls))
        artifacts = open_artifacts(config.artifacts_url)
        signer, verifier = Signer(config.bundle_signing_key), Verifier(config.bundle_public_key)
        trainer = Trainer(
            f"{socket.gethostname()}:{os.getpid()}",
            SchedulerClient(scheduler),
            TripletsClient(triplets),
            ArtifactHeads(artifacts, signer, verifier, metadata.version("trine")),
            TorchLearner(config.device),
            file_learner=TorchFileLearner(config.device),
        )
        clock = SystemClock()
        authenticator = Authenticator(_no_keys, config.mesh_token, clock)
        interceptor = CallInterceptor(authenticator, {}, CallLimits("*=1", 1, clock))
        health = await enter(serving(config.grpc_address, interceptor, [], lambda _: None, tls))
        await enter(background(trainer.run()))
        await set_health(health, [], serving=True)
        await until_signal()


async def _no_keys(_key: HashedKey) -> Grant | None:
    """Nobody calls a trainer from outside."""
    return None

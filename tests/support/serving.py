"""Serving behind a real channel, with a tenant's domain, its people and a head to load."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
from google.protobuf import json_format
from trine.serving.v1 import (
    encoder_service_pb2,
    encoder_service_pb2_grpc,
    loaded_head_service_pb2,
    loaded_head_service_pb2_grpc,
    match_service_pb2,
    match_service_pb2_grpc,
)

from services.chassis.clock import SystemClock
from services.serving.artifacts import ArtifactBundles
from services.serving.core.candidates import Floats
from services.serving.core.errors import (
    HeadRefusedError,
    ModelNotFoundError,
    ModelUnavailableError,
)
from services.serving.core.exposure import ExposureLog
from services.serving.core.facts import Facts
from services.serving.core.follow_profiles import ProfileFollower
from services.serving.core.loaded_head import fit_head
from services.serving.core.models import ModelShelf
from services.serving.core.ports import DesiredModel
from services.serving.core.shadow import ShadowRanker, TrialJournal
from services.serving.core.swap_heads import Registry
from services.serving.rpc.errors import ERRORS
from services.serving.rpc.matches import MatchServicer
from services.serving.wiring import NAMES, register
from tests.support.candidates import NOW
from tests.support.heads import LAYOUT, HeadShelf, known_people, known_tallies
from tests.support.probes import PROBE
from tests.support.server import ACME, MESH, running
from tests.support.signatures import VERIFIER


class Encoder:
    """Gives the length of a text as its vector, unless it is broken."""

    name = "test"
    dim = 2

    async def encode_counted(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.float16], list[int]]:
        if "break" in texts:
            raise RuntimeError("postgresql://trine:hunter2@db")
        vectors = np.array([[len(text), 0.5] for text in texts], np.float16)
        return vectors, [len(text.split()) for text in texts]


class Catalog:
    """Says what models' names stand for, by tenant and name, unless it is away."""

    def __init__(self) -> None:
        self.models = {("acme", "trine-general"): DesiredModel("", "general", "")}
        self.asked = 0
        self.away = False

    async def get(self, tenant: str, name: str) -> DesiredModel:
        self.asked += 1
        if self.away:
            raise ModelUnavailableError(name)
        if (tenant, name) not in self.models:
            raise ModelNotFoundError(name)
        return self.models[tenant, name]


class Turned:
    """Swaps the two numbers of a vector."""

    def map_texts(self, vectors_nd: Floats) -> Floats:
        return vectors_nd[:, ::-1]


class Maps:
    """Maps that turn, unless they are broken."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.broken = False
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def load_map(self, desired: DesiredModel, space: tuple[str, int]) -> Turned:
        assert (desired.owner, space) == ("acme", ("test", 2))
        self.loaded.append(desired.manifest_digest)
        await self.go_on.wait()
        if self.broken:
            raise HeadRefusedError("is broken")
        return Turned()


class Judge:
    """Answers what it is told to."""

    model = "wise"

    def __init__(self) -> None:
        self.scores: list[object] = []

    async def score(self, seeker: Facts, candidates: Sequence[Facts]) -> Sequence[object]:
        return self.scores


class Serving:
    """The service, its stubs, and what it serves: acme's domain "dating"."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.ready = True
        self.judge = Judge()
        self.catalog, self.maps = Catalog(), Maps()
        self.dropped = 0
        self.run_id = ""
        self.exposures = ExposureLog(self._drop)
        self.journal = TrialJournal(lambda *_: None)
        self.shadow = ShadowRanker(self.journal)
        self.channel: grpc.aio.Channel

    def _drop(self, count: int) -> None:
        self.dropped += count

    def fill(self, tenant: str, domain: str) -> None:
        """Brings everyone into a domain."""
        follower, key = ProfileFollower(self.registry), (tenant, domain)
        people, tallies = known_people(), known_tallies()
        follower.apply(key, LAYOUT, profiles=people, tallies=tallies, revision=0)
        follower.apply(key, LAYOUT, profiles=None, tallies=None, revision=1)

    async def load(self, domain: str = "dating") -> str:
        """Puts a head in use."""
        shelf, key = HeadShelf(), ("acme", domain)
        bundle = await ArtifactBundles(shelf.artifacts, VERIFIER, PROBE).load(await shelf.store())
        served = self.registry.domains[key]
        head = fit_head(bundle, served.partition.layout)
        self.run_id = bundle.run_id
        self.registry.put(key, dataclasses.replace(served, head=head, load_time=NOW))
        return head.head

    def match(self, user_id: str = "u0", metadata: Any = ACME, **content: Any) -> Any:
        """Asks for matches."""
        request = match_service_pb2.FindMatchesRequest()
        json_format.ParseDict({"user_id": user_id, "domain": "dating", **content}, request)
        return self.send(request, metadata)

    def send(self, request: match_service_pb2.FindMatchesRequest, metadata: Any = ACME) -> Any:
        """Asks for matches with a request of any content."""
        stub = match_service_pb2_grpc.MatchServiceStub(self.channel)
        return stub.FindMatches(request, metadata=metadata)

    def match_all(self, *user_ids: str, **content: Any) -> Any:
        """Asks for matches of many."""
        request = match_service_pb2.BatchFindMatchesRequest()
        body = {"user_ids": list(user_ids), "domain": "dating", **content}
        json_format.ParseDict(body, request)
        stub = match_service_pb2_grpc.MatchServiceStub(self.channel)
        return stub.BatchFindMatches(request, metadata=ACME)

    async def matched(self, **content: Any) -> set[int]:
        """Numbers of everyone who may be offered to the first person."""
        response = await self.match(limit=1_000, **content)
        return {int(match.user_id[1:]) for match in response.matches}

    def encode(self, *texts: str, metadata: Any = MESH) -> Any:
        """Asks for vectors."""
        stub = encoder_service_pb2_grpc.EncoderServiceStub(self.channel)
        request = encoder_service_pb2.EncodeTextsRequest(texts=texts)
        return stub.EncodeTexts(request, metadata=metadata)

    def loaded(self, metadata: Any = MESH) -> Any:
        """Asks what is loaded."""
        stub = loaded_head_service_pb2_grpc.LoadedHeadServiceStub(self.channel)
        request = loaded_head_service_pb2.ListLoadedHeadsRequest()
        return stub.ListLoadedHeads(request, metadata=metadata)


@asynccontextmanager
async def running_serving() -> AsyncIterator[Serving]:
    """The service behind a real channel."""
    made = Serving(Registry(SystemClock()))
    made.fill("acme", "dating")
    with ThreadPoolExecutor(1) as executor:
        matches = MatchServicer(
            made.registry,
            lambda: made.ready,
            executor,
            judge=made.judge,
            exposures=made.exposures,
            journal=made.journal,
            shadow=made.shadow,
            clock=SystemClock(),
        )

        def add(server: grpc.aio.Server) -> None:
            models = ModelShelf(made.catalog, made.maps, Encoder(), SystemClock())
            register(server, made.registry, models, matches)

        async with running(ERRORS, add, NAMES) as made.channel:
            yield made

"""Matches by each way in, against the same stages in this process without any way in."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager

import grpc
import numpy as np
from trine.serving.v1 import match_service_pb2, match_service_pb2_grpc

from services.chassis.artifacts import open_artifacts
from services.chassis.channel import open_channel
from services.chassis.clock import SystemClock
from services.chassis.signatures import Verifier, public_key_of
from services.serving.artifacts import ArtifactBundles
from services.serving.clients import SchedulerPromotions, follow_profiles
from services.serving.core.find_matches import MatchRequest, find_matches
from services.serving.core.follow_profiles import ProfileFollower
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.shadow import TrialJournal
from services.serving.core.stages import read_stages
from services.serving.core.swap_heads import HeadSwapper, Registry
from services.serving.index import FaissIndexBuilder
from services.serving.probe import Probe
from tests.bench.ingest import CALLERS, DOMAIN, PEOPLE
from tests.bench.rates import Call, Rate, call_for, middle
from tests.bench.rest import Connection, open_connections
from tests.bench.table import Table
from tests.support.mesh import Mesh

LIMIT = 10
THREADS = 2
ROUNDS = 3
SECONDS = 2.0
FLOOR = "the stages in process"


async def measure_matches(mesh: Mesh, table: Table) -> None:
    """The domain must have a trained head. The ways take turns, round by round."""
    served = await _load_here(mesh)
    assert served.head.scorers is not None
    direct, public = mesh.told["services"]["serving"], mesh.told["grpc"]
    async with (
        open_connections(mesh, CALLERS) as connections,
        _open_stub(direct) as to_serving,
        _open_stub(public) as to_envoy,
    ):
        ways = {
            "gRPC at serving's port": _grpc_calls(to_serving, mesh),
            "gRPC through Envoy": _grpc_calls(to_envoy, mesh),
            "REST through Envoy": rest_calls(connections),
        }
        floors: list[Rate] = []
        rates: dict[str, list[Rate]] = {way: [] for way in ways}
        for _ in range(ROUNDS):
            floors.append(await asyncio.to_thread(_match_here, served))
            for way, calls in ways.items():
                rates[way].append(await call_for(SECONDS, calls))
    floor = middle(floors)
    for way, found in rates.items():
        rate = middle(found)
        assert not rate.failed
        table.compare(f"matches by {way}", rate.per_second, FLOOR, floor.per_second)
        table.tell(f"  their p99, {CALLERS} at a time", rate.p99_ms, "ms")


def seekers() -> Iterator[str]:
    """Everyone in turn, for ever."""
    return itertools.cycle([f"u{number}" for number in range(PEOPLE)])


def rest_calls(connections: list[Connection]) -> list[Call]:
    """Matches over REST, one call a connection."""
    bodies = ({"user_id": user_id, "domain": DOMAIN, "limit": LIMIT} for user_id in seekers())
    made = [connections[0].post("/v1/match", body) for body in itertools.islice(bodies, PEOPLE)]
    requests = itertools.cycle(made)

    def one(connection: Connection) -> Call:
        async def call() -> bool:
            return await connection.ask(next(requests)) is not None

        return call

    return [one(connection) for connection in connections]


async def _load_here(mesh: Mesh) -> ServedDomain:
    """What serving has in memory, in this process: people, outcomes' counts and the head."""
    registry, clock, services = Registry(SystemClock()), SystemClock(), mesh.told["services"]
    token = mesh.home.read_secrets().mesh_token
    async with (
        open_channel(services["triplets"], token) as triplets,
        open_channel(services["scheduler"], token) as scheduler,
    ):
        complete = asyncio.Event()
        following = follow_profiles(triplets, ProfileFollower(registry), complete.set)
        task = asyncio.create_task(following)
        await complete.wait()
        task.cancel()
        verifier = Verifier(public_key_of(mesh.home.read_secrets().bundle_signing_key))
        source = ArtifactBundles(open_artifacts(str(mesh.home.artifacts)), verifier, Probe())
        promotions = SchedulerPromotions(scheduler)
        swapper = HeadSwapper(
            registry,
            promotions,
            source,
            FaissIndexBuilder(),
            clock,
            observe=lambda *_: None,
            journal=TrialJournal(lambda *_: None),
        )
        await swapper.sync()
    return registry.domains[mesh.told["tenant"], DOMAIN]


def _match_here(served: ServedDomain) -> Rate:
    """Matches in as many threads as serving has."""
    stages, users = read_stages({}), seekers()
    end = time.perf_counter() + SECONDS

    def work(_: int) -> list[float]:
        spent: list[float] = []
        while (start := time.perf_counter()) < end:
            wish = MatchRequest(user_id=next(users), conditions=[], stages=stages, limit=LIMIT)
            assert len(find_matches(served, wish).numbers) == LIMIT
            spent.append(time.perf_counter() - start)
        return spent

    with ThreadPoolExecutor(THREADS) as pool:
        spent = list(itertools.chain.from_iterable(pool.map(work, range(THREADS))))
    return Rate(len(spent) / SECONDS, float(np.percentile(spent, 99)) * 1e3, 0)


@asynccontextmanager
async def _open_stub(address: str) -> AsyncIterator[match_service_pb2_grpc.MatchServiceStub]:
    async with grpc.aio.insecure_channel(address) as channel:
        yield match_service_pb2_grpc.MatchServiceStub(channel)


def _grpc_calls(stub: match_service_pb2_grpc.MatchServiceStub, mesh: Mesh) -> list[Call]:
    """Matches over gRPC on one connection."""
    metadata = (("authorization", f"Bearer {mesh.told['api_key']}"),)
    users = seekers()

    async def call() -> bool:
        request = match_service_pb2.FindMatchesRequest(
            user_id=next(users), domain=DOMAIN, limit=LIMIT
        )
        return len((await stub.FindMatches(request, metadata=metadata)).matches) == LIMIT

    return [call] * CALLERS

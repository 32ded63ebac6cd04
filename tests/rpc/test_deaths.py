"""Trainers die at every step, or stand still: another ends their run, with the same bytes."""

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from trine.scheduler.v1 import file_run_pb2, file_run_service_pb2, file_run_service_pb2_grpc
from trine.triplets.v1 import (
    file_snapshot_service_pb2,
    file_snapshot_service_pb2_grpc,
    snapshot_service_pb2,
    snapshot_service_pb2_grpc,
)

from services.scheduler.core.lease_run import expire_leases
from services.scheduler.core.pause_run import pause_run, resume_run
from services.scheduler.core.run import ACTIVE, ATTEMPTS_MAX, Run, State
from services.scheduler.metrics import STALE_TOKENS
from tests.support.crashes import crash_points
from tests.support.file_snapshots import file_snapshot
from tests.support.nursery import Forked
from tests.support.scheduler import LEASE_SECONDS, Scheduler, open_service
from tests.support.server import MESH, free_address
from tests.support.snapshots import snapshot
from tests.support.trainers import Trainers, raising_trainers

TENANT = "acme"
SECONDS_MAX = 60
CONTENT = snapshot(people=40, partners=10, taste=2.0, seed=2)

EITHER = (
    "trainer.run.leased",
    "trainer.artifact.read",
    "trainer.artifact.written",
    "trainer.heartbeat.sent",
    "trainer.run.completed",
)
OF_DOMAIN = (
    "trainer.snapshot.made",
    "trainer.step.done",
    "trainer.head.learned",
    "trainer.head.evaluated",
    "trainer.head.exported",
    "trainer.head.parts_written",
    "trainer.head.written",
)
OF_FILES = (
    "trainer.file_snapshot.made",
    "trainer.epoch.done",
    "trainer.model.learned",
    "trainer.model.evaluated",
    "trainer.model.parts_written",
    "trainer.model.written",
)
PAUSED = "trainer.run.released"
DEATHS = [
    (kind, deaths)
    for kind, (early, late) in {
        "domain": (
            ["trainer.run.leased", *OF_DOMAIN[:2], *EITHER[1:4]],
            [*OF_DOMAIN[2:], "trainer.run.completed"],
        ),
        "files": (
            ["trainer.run.leased", *OF_FILES[:2], *EITHER[1:4]],
            [*OF_FILES[2:], "trainer.heartbeat.sent", "trainer.run.completed"],
        ),
    }.items()
    for deaths in zip(early, late, strict=True)
]
"""Two for each run: the third attempt is the last."""


class _Triplets:
    """The triplet store as trainers see it: it has frozen everything already."""

    def __init__(self) -> None:
        self.digests: dict[str, str] = {}

    async def CreateSnapshot(self, _request: object, _context: object) -> object:
        return snapshot_service_pb2.CreateSnapshotResponse(digest=self.digests["domain"])

    async def CreateFileSnapshot(self, _request: object, _context: object) -> object:
        return file_snapshot_service_pb2.CreateFileSnapshotResponse(
            digest=self.digests["files"],
            training_lines_count=80,
            method="triplet",
        )

    def __getattr__(self, name: str) -> object:
        return None  # what no trainer asks


@dataclass
class World:
    """A scheduler, a triplet store, and trainers who come and go."""

    scheduler: Scheduler
    trainers: Trainers
    kind: str
    run_id: str = ""
    digests: list[str] = field(default_factory=list)

    async def queue(self) -> None:
        """Asks for a run."""
        if self.kind == "domain":
            self.run_id = (await self.scheduler.train(force=True)).run_id
            return
        source = file_run_pb2.FileSource(
            training_file=file_run_pb2.FileSource.InputFile(digest="1" * 64, size_bytes=1_000),
            base_model="trine-general",
            model="ft:trine-general:acme::one",
        )
        stub = file_run_service_pb2_grpc.FileRunServiceStub(self.scheduler.channel)
        request = file_run_service_pb2.CreateFileRunRequest(tenant=TENANT, source=source, seed=3)
        self.run_id = (await stub.CreateFileRun(request, metadata=MESH)).file_run.run.run_id

    async def run(self) -> Run:
        """The run as it stands."""
        found = await self.scheduler.store.read_run(TENANT, self.run_id)
        assert found is not None
        return found

    async def expire(self) -> None:
        """So much time passes that whoever holds the run has lost it."""
        self.scheduler.clock.advance(LEASE_SECONDS + 1)
        async with self.scheduler.store.begin(TENANT) as unit:
            await expire_leases(unit)

    async def until(self, *states: State) -> Run:
        """Waits for a state."""

        async def reached() -> bool:
            return (await self.run()).state in states

        await until(reached)
        return await self.run()

    async def until_ended(self) -> str:
        """Waits for the end and returns the digest of the head's manifest."""
        run = await self.until(*(set(State) - ACTIVE))
        assert run.state is State.SUCCEEDED, run.failure
        head = await self.scheduler.store.read_head(TENANT, run.head)
        assert head is not None
        return head.manifest_digest


async def until(ask: Callable[[], Awaitable[bool]]) -> None:
    """Waits until something is so."""
    for _ in range(SECONDS_MAX * 100):
        if await ask():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("it does not happen")


async def death(trainer: Forked) -> None:
    """Waits for a trainer's end."""
    async with asyncio.timeout(SECONDS_MAX):
        await trainer.wait()


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with raising_trainers(tmp_path_factory.mktemp("nursery")) as address:
        yield address


@asynccontextmanager
async def open_world(nursery: str, folder: Path, kind: str) -> AsyncIterator[World]:
    """A run that waits for a trainer."""
    address, addresses = free_address(), [free_address(), free_address()]
    triplets = _Triplets()
    server = grpc.aio.server()
    servicer = cast("Any", triplets)
    snapshot_service_pb2_grpc.add_SnapshotServiceServicer_to_server(servicer, server)
    file_snapshot_service_pb2_grpc.add_FileSnapshotServiceServicer_to_server(servicer, server)
    server.add_insecure_port(addresses[1])
    await server.start()
    told = {"TRINE_SCHEDULER_ADDRESS": address, "TRINE_TRIPLETS_ADDRESS": addresses[1]}
    trainers = Trainers(nursery, folder, told)
    async with open_service(address, str(folder / "artifacts")) as scheduler:
        triplets.digests["domain"] = await scheduler.artifacts.put(CONTENT)
        triplets.digests["files"] = await scheduler.artifacts.put(await file_snapshot(80, 20))
        world = World(scheduler, trainers, kind)
        await world.queue()
        try:
            yield world
        finally:
            await trainers.end()
            await server.stop(None)


_whole: dict[str, str] = {}


async def whole(nursery: str, folder: Path, kind: str) -> str:
    """What a run makes that nobody has interrupted."""
    if kind not in _whole:
        await asyncio.to_thread(folder.mkdir)
        async with open_world(nursery, folder, kind) as world:
            await world.trainers.start()
            _whole[kind] = await world.until_ended()
            assert (await world.run()).attempt == 1
    return _whole[kind]


def test_a_trainer_dies_at_all_of_its_points() -> None:
    points = {point for _, deaths in DEATHS for point in deaths}
    assert points | {PAUSED} == set(crash_points()["trainer"])
    assert points == {*EITHER, *OF_DOMAIN, *OF_FILES}


@pytest.mark.parametrize(("kind", "deaths"), DEATHS)
async def test_a_run_whose_trainers_die_ends_with_the_same_head(
    nursery: str, tmp_path: Path, kind: str, deaths: Sequence[str]
) -> None:
    assert len(deaths) < ATTEMPTS_MAX
    async with open_world(nursery, tmp_path, kind) as world:
        for point in deaths:
            await death(await world.trainers.start(point))
            await world.expire()
        await world.trainers.start()
        digest = await world.until_ended()
        done = 0 if deaths[-1] != "trainer.run.completed" else 1
        assert (await world.run()).attempt == 1 + len(deaths) - done
    assert digest == await whole(nursery, tmp_path / "whole", kind)


@pytest.mark.parametrize("kind", ["domain", "files"])
async def test_what_was_learned_before_a_death_is_not_learned_again(
    nursery: str, tmp_path: Path, kind: str
) -> None:
    step, learned = {
        "domain": ("trainer.step.done", "trainer.head.learned"),
        "files": ("trainer.epoch.done", "trainer.model.learned"),
    }[kind]
    async with open_world(nursery, tmp_path, kind) as world:
        await death(await world.trainers.start(learned))
        left = await world.run()
        assert left.checkpoint_digest
        await world.expire()
        trainer = await world.trainers.start(step, max(1, left.steps_done_count // 2))
        digest = await world.until_ended()
        assert trainer.returncode is None
    assert digest == await whole(nursery, tmp_path / "whole", kind)


async def test_a_checkpoint_that_is_not_what_was_written_is_not_gone_on_from(
    nursery: str, tmp_path: Path
) -> None:
    async with open_world(nursery, tmp_path, "domain") as world:
        await death(await world.trainers.start("trainer.head.learned"))
        digest = (await world.run()).checkpoint_digest
        path = tmp_path / "artifacts" / "sha256" / digest[:2] / digest
        content = path.read_bytes()
        half = len(content) // 2
        path.write_bytes(content[:half] + bytes(len(content) - half))
        await world.expire()
        await world.trainers.start()
        found = await world.until_ended()
        assert (await world.run()).attempt == 2
    assert found == await whole(nursery, tmp_path / "whole", "domain")


async def test_a_run_whose_trainer_dies_when_it_has_paused_goes_on(
    nursery: str, tmp_path: Path
) -> None:
    async with open_world(nursery, tmp_path, "domain") as world:
        trainer = await world.trainers.start(PAUSED)
        await world.until(State.RUNNING)
        async with world.scheduler.store.begin(TENANT) as unit:
            await pause_run(unit, TENANT, world.run_id)
        await death(trainer)
        assert (await world.run()).state is State.PAUSED
        async with world.scheduler.store.begin(TENANT) as unit:
            await resume_run(unit, TENANT, world.run_id)
        await world.trainers.start()
        digest = await world.until_ended()
        assert (await world.run()).attempt == 1
    assert digest == await whole(nursery, tmp_path / "whole", "domain")


@pytest.mark.parametrize("point", ["trainer.step.done", "trainer.head.written"])
async def test_a_trainer_that_stood_still_changes_nothing(
    nursery: str, tmp_path: Path, point: str
) -> None:
    async with open_world(nursery, tmp_path, "domain") as world:
        stale = await world.trainers.start(point, stalls=True)
        await world.until(State.RUNNING, State.EXPORTING)
        await until(world.trainers.all_met)
        await world.expire()
        assert (await world.run()).state is State.QUEUED
        leased = await world.scheduler.lease()
        assert leased is not None
        before, count = await world.run(), STALE_TOKENS._value.get()
        stale.send_signal(signal.SIGCONT)

        async def refused() -> bool:
            return bool(STALE_TOKENS._value.get() > count)

        await until(refused)
        assert await world.run() == before
        assert await world.scheduler.heads() == []
        await world.expire()
        assert await world.until_ended() == await whole(nursery, tmp_path / "whole", "domain")

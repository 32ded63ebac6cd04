"""Steering and watching runs over the wire: what callers read and what trainers hear."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from trine.scheduler.v1 import lease_service_pb2 as lease_pb
from trine.scheduler.v1 import lease_service_pb2_grpc, run_service_pb2, run_service_pb2_grpc

from services.chassis import auth, interceptors
from services.scheduler.core import watch_runs
from tests.support import server
from tests.support.scheduler import DIGEST, Scheduler, open_service
from tests.support.server import ACME, MESH, OTHER, Refusal, refused

Directive = lease_pb.HeartbeatRunResponse


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_service() as opened:
        yield opened


def steer(scheduler: Scheduler, verb: str, run_id: str, metadata: Any = ACME) -> Any:
    """Calls PauseRun, ResumeRun or StopRun."""
    stub = run_service_pb2_grpc.RunServiceStub(scheduler.channel)
    request = getattr(run_service_pb2, f"{verb}RunRequest")(run_id=run_id)
    return getattr(stub, f"{verb}Run")(request, metadata=metadata)


def release(scheduler: Scheduler, leased: Any) -> Any:
    stub = lease_service_pb2_grpc.LeaseServiceStub(scheduler.channel)
    request = lease_pb.ReleaseRunRequest(
        tenant=leased.tenant, run_id=leased.run_id, token=leased.token
    )
    return stub.ReleaseRun(request, metadata=MESH)


async def test_a_run_is_paused_and_resumed(scheduler: Scheduler) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    leased = await scheduler.lease()
    assert (await steer(scheduler, "Pause", run_id)).status == "pausing"
    answer = await scheduler.heartbeat(leased, checkpoint_digest=DIGEST)
    assert answer.directive == Directive.DIRECTIVE_PAUSE
    await release(scheduler, leased)
    assert (await scheduler.run(run_id)).status == "paused"
    refusal = await refused(scheduler.train(force=True))
    assert (refusal.reason, refusal.metadata["status"]) == ("RUN_ACTIVE", "paused")
    plan = (await scheduler.train(force=True, dry_run=True)).plan
    assert [obstacle.reason for obstacle in plan.obstacles] == ["RUN_ACTIVE"]
    assert await scheduler.lease() is None
    assert (await steer(scheduler, "Resume", run_id)).status == "queued"
    again = await scheduler.lease()
    assert again is not None
    assert again.checkpoint_digest == DIGEST
    assert (await refused(release(scheduler, leased))).reason == "LEASE_LOST"
    await scheduler.complete(again)
    run = await scheduler.run(run_id)
    assert (run.status, run.attempt, run.stop_requested) == ("succeeded", 1, False)


async def test_a_run_is_stopped_with_its_head(scheduler: Scheduler) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    early = await refused(steer(scheduler, "Stop", run_id))
    assert (early.reason, early.metadata["status"]) == ("RUN_STATE_INVALID", "queued")
    leased = await scheduler.lease()
    assert (await steer(scheduler, "Stop", run_id)).status == "stopping"
    assert (await scheduler.heartbeat(leased)).directive == Directive.DIRECTIVE_STOP
    await scheduler.complete(leased)
    run = await scheduler.run(run_id)
    assert (run.status, run.stop_requested, run.verdict.result) == ("stopped", True, "promoted")
    assert await scheduler.promoted() == [run.head]
    assert (await steer(scheduler, "Stop", run_id)).status == "stopped"
    for verb in ("Pause", "Resume"):
        refusal = await refused(steer(scheduler, verb, run_id))
        assert (refusal.reason, refusal.metadata["status"]) == ("RUN_ENDED", "stopped")


def watch(scheduler: Scheduler, run_id: str, metadata: Any = ACME) -> Any:
    stub = run_service_pb2_grpc.RunServiceStub(scheduler.channel)
    return stub.WatchRun(run_service_pb2.WatchRunRequest(run_id=run_id), metadata=metadata)


async def test_a_run_is_watched_to_its_end(scheduler: Scheduler) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    stream = aiter(watch(scheduler, run_id))
    first = await anext(stream)
    assert (first.status, first.estimated_completion_minutes) == ("queued", 1)
    leased = await scheduler.lease()
    assert (await anext(stream)).status == "starting"
    await scheduler.complete(leased)
    (last,) = [run async for run in stream]
    assert last == await scheduler.run(run_id)


async def test_what_cannot_be_watched_is_refused(scheduler: Scheduler) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    for stream in (watch(scheduler, run_id, OTHER), watch(scheduler, "tr_2020_01_01_001")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(stream))
        assert Refusal(caught.value).reason == "RUN_NOT_FOUND"


async def test_a_watcher_that_goes_makes_room_for_the_next(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch_runs, "TENANT_WATCHERS_MAX", 1)
    run_id = (await scheduler.train(force=True)).run_id
    for _ in range(3):
        stream = await admitted(scheduler, run_id)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(aiter(watch(scheduler, run_id)))
        refusal = Refusal(caught.value)
        assert (refusal.reason, refusal.code.name) == ("WATCHERS_EXHAUSTED", "RESOURCE_EXHAUSTED")
        stream.cancel()


async def test_a_watch_ends_once_its_key_is_revoked(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interceptors, "ADMIT_AGAIN_SECONDS", 0.02)
    monkeypatch.setattr(auth, "FRESH_SECONDS", 0.02)
    run_id = (await scheduler.train(force=True)).run_id
    stream = aiter(watch(scheduler, run_id))
    await anext(stream)
    await scheduler.lease()
    assert (await anext(stream)).status == "starting"  # looked at again and again, and good
    monkeypatch.setattr(server, "GRANTS", {})
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await asyncio.wait_for(anext(stream), 5)
    refusal = Refusal(caught.value)
    assert (refusal.reason, refusal.code.name) == ("API_KEY_INVALID", "UNAUTHENTICATED")


async def admitted(scheduler: Scheduler, run_id: str) -> Any:
    """A watcher, once the one before has gone."""
    for _ in range(100):
        stream = watch(scheduler, run_id)
        with contextlib.suppress(grpc.aio.AioRpcError):
            await anext(aiter(stream))
            return stream
        await asyncio.sleep(0.01)
    raise AssertionError("the one before does not go")


@pytest.mark.parametrize("verb", ["Pause", "Resume", "Stop"])
async def test_nobody_steers_anothers_run(scheduler: Scheduler, verb: str) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    refusal = await refused(steer(scheduler, verb, run_id, metadata=OTHER))
    assert refusal.reason == "RUN_NOT_FOUND"
    assert (await scheduler.run(run_id)).status == "queued"

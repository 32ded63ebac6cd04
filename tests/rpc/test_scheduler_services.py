"""The scheduler's services: asking for runs, leasing them, judging heads, rolling them back."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from trine.scheduler.v1 import lease_service_pb2, lease_service_pb2_grpc, run_pb2

from services.chassis.database import EVERYONE
from services.scheduler.core.lease_run import expire_leases
from services.scheduler.core.run import Run
from services.scheduler.core.tell_trained import tell_trained
from services.scheduler.core.train_domain import consider_training
from services.scheduler.rpc import leases
from tests.support.scheduler import (
    DIGEST,
    LEASE_SECONDS,
    POLICY,
    Scheduler,
    evaluation,
    open_service,
)
from tests.support.server import MESH, OTHER, refused
from tests.support.signatures import SIGNER, STRANGER


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_service() as opened:
        yield opened


async def test_a_run_is_queued_as_the_seed_prints_it(scheduler: Scheduler) -> None:
    answer = await scheduler.train(force=True)
    assert answer.domain == "dating"
    assert answer.status == "queued"
    assert answer.run_id == "tr_2026_05_17_001"
    assert answer.triplets_used == 4_218
    assert answer.estimated_completion_minutes >= 1


async def test_without_force_the_budget_decides(scheduler: Scheduler) -> None:
    assert (await scheduler.train("dating")).status == "queued"
    refusal = await refused(scheduler.train("hiring"))
    assert refusal.reason == "BUDGET_NOT_REACHED"
    assert refusal.metadata["triplets_pending"] == "10"
    assert refusal.metadata["triplets_budget"] == "1000"
    assert (await scheduler.train("hiring", force=True)).status == "queued"


@pytest.mark.parametrize(
    ("domain", "reason", "code"),
    [
        ("", "FIELD_INVALID", "INVALID_ARGUMENT"),
        ("nowhere", "DOMAIN_NOT_FOUND", "NOT_FOUND"),
        ("empty", "NO_TRIPLETS", "FAILED_PRECONDITION"),
    ],
)
async def test_what_cannot_be_trained_is_refused(
    scheduler: Scheduler, domain: str, reason: str, code: str
) -> None:
    refusal = await refused(scheduler.train(domain, force=True))
    assert (refusal.reason, refusal.code.name) == (reason, code)
    assert (await scheduler.runs()).runs == []


async def test_a_second_run_is_refused_and_names_the_first(scheduler: Scheduler) -> None:
    first = await scheduler.train(force=True)
    refusal = await refused(scheduler.train(force=True))
    assert (refusal.reason, refusal.code.name) == ("RUN_ACTIVE", "ALREADY_EXISTS")
    assert refusal.metadata["run_id"] == first.run_id


async def test_a_repeated_wish_gets_the_first_answer(scheduler: Scheduler) -> None:
    first = await scheduler.train(force=True, request_id="r1")
    await scheduler.lease()
    assert await scheduler.train(force=True, request_id="r1") == first
    refusal = await refused(scheduler.train("hiring", force=True, request_id="r1"))
    assert refusal.reason == "REQUEST_ID_REUSED"


async def test_a_run_reports_its_way(scheduler: Scheduler) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    leased = await scheduler.lease()
    assert leased is not None
    assert (leased.run_id, leased.revision, leased.incumbent) == (run_id, 7, "")
    assert leased.head == "u_acme.dating.2026-05-17.001"
    assert (await scheduler.run(run_id)).status == "starting"
    await scheduler.heartbeat(
        leased,
        progress=run_pb2.Run.Progress(steps_done_count=3, steps_count=9),
        loss_points=[run_pb2.Run.LossPoint(step=3, loss=0.5, validation_ndcg_at_10=0.7)],
        snapshot_digest=DIGEST,
    )
    run = await scheduler.run(run_id)
    assert (run.status, run.attempt, run.snapshot_digest) == ("running", 1, DIGEST)
    assert (run.progress.steps_done_count, run.progress.steps_count) == (3, 9)
    assert run.loss_curve[0].validation_ndcg_at_10 == 0.7
    verdict = (await scheduler.complete(leased)).verdict
    run = await scheduler.run(run_id)
    assert (run.status, run.verdict.result, run.head) == ("succeeded", "promoted", leased.head)
    assert run.verdict == verdict
    assert run.estimated_completion_minutes == 0


async def test_nothing_is_leased_when_nothing_is_queued(scheduler: Scheduler) -> None:
    assert await scheduler.lease() is None
    await scheduler.train(force=True)
    assert await scheduler.lease() is not None
    assert await scheduler.lease() is None


async def test_a_better_head_is_promoted_and_a_worse_one_held(scheduler: Scheduler) -> None:
    await scheduler.trained()
    assert await scheduler.promoted() == ["u_acme.dating.2026-05-17.001"]
    await scheduler.trained(better=False)
    assert await scheduler.promoted() == ["u_acme.dating.2026-05-17.001"]
    held, promoted = await scheduler.heads()
    assert (held.verdict.result, held.promoted) == ("held", False)
    assert held.parent == held.verdict.incumbent == "u_acme.dating.2026-05-17.001"
    assert held.verdict.reasons
    assert (promoted.verdict.result, promoted.promoted) == ("promoted", True)
    assert promoted.parent == "general"


async def test_completing_twice_gives_one_head_and_one_answer(scheduler: Scheduler) -> None:
    await scheduler.train(force=True)
    leased = await scheduler.lease()
    first = await scheduler.complete(leased)
    assert await scheduler.complete(leased) == first
    assert len(await scheduler.heads()) == 1


@pytest.mark.parametrize("wrong", ["tenant", "domain", "head", "run_id"])
async def test_a_manifest_of_something_else_completes_nothing(
    scheduler: Scheduler, wrong: str
) -> None:
    await scheduler.train(force=True)
    leased = await scheduler.lease()
    assert leased is not None
    digest = await scheduler.told(leased, **{wrong: "other"})
    refusal = await refused(scheduler.complete(leased, digest=digest))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "manifest_digest")
    assert leased.head in refusal.message
    assert await scheduler.heads() == []
    await scheduler.complete(leased)
    assert len(await scheduler.heads()) == 1


async def test_only_what_a_trainer_has_signed_completes_a_run(scheduler: Scheduler) -> None:
    await scheduler.train(force=True)
    leased = await scheduler.lease()
    put, content = scheduler.artifacts.put, scheduler.manifest(leased)
    for digest, message in (
        ("0" * 64, "does not exist"),
        (await put(content), "is not signed"),
        (await put(STRANGER.sign(content)), "a key that is not allowed"),
        (await put(SIGNER.sign(content)[:-1] + b" "), "another signature than its content"),
        (await put(SIGNER.sign(b"[" * 100_000)), "must name a head's manifest"),
        (await put(SIGNER.sign(b'{"head": 1, "head": 2}')), "must name a head's manifest"),
        (await put(SIGNER.sign(content + b" " * 2**20)), "larger than"),
    ):
        refusal = await refused(scheduler.complete(leased, digest=digest))
        assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "manifest_digest")
        assert message in refusal.message
    assert await scheduler.heads() == []


async def test_a_head_measured_against_one_that_is_no_longer_in_use_is_held(
    scheduler: Scheduler,
) -> None:
    await scheduler.trained()
    await scheduler.train(force=True)
    leased = await scheduler.lease()
    await scheduler.roll_back("general")
    verdict = (await scheduler.complete(leased)).verdict
    assert verdict.result == "held"
    assert "changed during the run" in verdict.reasons[0]
    assert await scheduler.promoted() == []


@pytest.mark.parametrize(
    ("change", "field_name"),
    [
        ({"levels": [2] * 5}, "evaluation"),
        ({"levels": [9] * 1_200}, "evaluation.levels"),
        ({"challenger_scores": [float("nan")] * 1_200}, "evaluation"),
    ],
)
async def test_a_broken_evaluation_ends_no_run(
    scheduler: Scheduler, change: dict[str, Any], field_name: str
) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    leased = await scheduler.lease()
    assert leased is not None
    content = evaluation(better=True)
    for name, values in change.items():
        del getattr(content, name)[:]
        getattr(content, name).extend(values)
    request = lease_service_pb2.CompleteRunRequest(
        tenant="acme", run_id=run_id, token=leased.token, manifest_digest=DIGEST, evaluation=content
    )
    stub = lease_service_pb2_grpc.LeaseServiceStub(scheduler.channel)
    refusal = await refused(stub.CompleteRun(request, metadata=MESH))
    assert refusal.metadata["field"] == field_name
    assert (await scheduler.run(run_id)).status == "starting"


async def test_a_silent_trainers_run_goes_to_another_and_the_first_can_change_nothing(
    scheduler: Scheduler,
) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    stale = await scheduler.lease()
    assert stale is not None
    await scheduler.heartbeat(stale, snapshot_digest=DIGEST, checkpoint_digest="b" * 64)
    scheduler.clock.advance(LEASE_SECONDS + 1)
    await expire(scheduler)
    assert (await scheduler.run(run_id)).status == "queued"
    for call in (scheduler.heartbeat(stale), scheduler.complete(stale)):
        assert (await refused(call)).reason == "LEASE_LOST"
    second = await scheduler.lease()
    assert second is not None
    assert second.token > stale.token
    assert (second.snapshot_digest, second.checkpoint_digest) == (DIGEST, "b" * 64)
    assert (await refused(scheduler.complete(stale))).reason == "LEASE_LOST"
    assert (await refused(scheduler.fail(stale, retriable=True))).reason == "LEASE_LOST"
    assert (await scheduler.complete(second)).verdict.result == "promoted"
    assert (await scheduler.run(run_id)).attempt == 2


async def test_only_the_holders_first_word_is_judged(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    await scheduler.train(force=True)
    stale = await scheduler.lease()
    scheduler.clock.advance(LEASE_SECONDS + 1)
    await expire(scheduler)
    leased = await scheduler.lease()
    first = await scheduler.complete(leased)

    def judge(*_: object) -> None:
        raise AssertionError("seconds of work for nothing")

    monkeypatch.setattr(leases, "judge", judge)
    assert (await refused(scheduler.complete(stale))).reason == "LEASE_LOST"
    assert await scheduler.complete(leased) == first


async def expire(scheduler: Scheduler) -> list[Run]:
    """What the scheduler does every second."""
    async with scheduler.store.begin(EVERYONE) as unit:
        return await expire_leases(unit)


async def test_a_lease_that_is_extended_does_not_expire(scheduler: Scheduler) -> None:
    await scheduler.train(force=True)
    leased = await scheduler.lease()
    for _ in range(5):
        scheduler.clock.advance(LEASE_SECONDS * 0.9)
        await scheduler.heartbeat(leased)
        assert await expire(scheduler) == []


async def test_a_run_that_no_trainer_can_finish_fails_at_last(scheduler: Scheduler) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    for _ in range(3):
        await scheduler.fail(await scheduler.lease(), retriable=True)
    run = await scheduler.run(run_id)
    assert (run.status, run.failure.reason) == ("failed", "ATTEMPTS_EXHAUSTED")
    assert (await scheduler.train(force=True)).run_id != run_id


async def test_a_failure_that_trying_again_cannot_mend_ends_the_run(scheduler: Scheduler) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    await scheduler.fail(await scheduler.lease(), retriable=False)
    run = await scheduler.run(run_id)
    assert (run.status, run.failure.message) == ("failed", "It broke.")


async def test_a_queued_run_is_cancelled_at_once(scheduler: Scheduler) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    assert (await scheduler.cancel(run_id)).status == "cancelled"
    assert (await scheduler.cancel(run_id)).status == "cancelled"
    assert await scheduler.lease() is None


async def test_the_trainer_of_a_cancelled_run_is_told_and_brings_no_head(
    scheduler: Scheduler,
) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    leased = await scheduler.lease()
    await scheduler.cancel(run_id)
    answer = await scheduler.heartbeat(leased)
    assert answer.directive == lease_service_pb2.HeartbeatRunResponse.DIRECTIVE_CANCEL
    assert (await refused(scheduler.complete(leased))).reason == "LEASE_LOST"
    assert await scheduler.heads() == []


async def test_an_ended_run_cannot_be_cancelled(scheduler: Scheduler) -> None:
    run_id = await scheduler.trained()
    refusal = await refused(scheduler.cancel(run_id))
    assert (refusal.reason, refusal.metadata["status"]) == ("RUN_ENDED", "succeeded")


async def test_runs_are_the_tenants_own(scheduler: Scheduler) -> None:
    run_id = (await scheduler.train(force=True)).run_id
    for call in (scheduler.run(run_id, metadata=OTHER), scheduler.cancel(run_id, metadata=OTHER)):
        assert (await refused(call)).reason == "RUN_NOT_FOUND"
    assert (await refused(scheduler.train(metadata=OTHER))).reason == "DOMAIN_NOT_FOUND"


async def test_runs_are_listed_newest_first_page_by_page(scheduler: Scheduler) -> None:
    for _ in range(5):
        await scheduler.trained()
        scheduler.clock.advance(1)
    seen, token = [], ""
    while True:
        page = await scheduler.runs(page_size=2, page_token=token)
        seen += [run.run_id[-1] for run in page.runs]
        token = page.next_page_token
        if not token:
            break
    assert seen == ["5", "4", "3", "2", "1"]
    assert (await scheduler.runs(domain="hiring")).runs == []
    assert (await refused(scheduler.runs(page_size=-1))).metadata["field"] == "page_size"


async def test_rolling_back_returns_to_the_head_before(scheduler: Scheduler) -> None:
    await scheduler.trained()
    scheduler.clock.advance(1)
    await scheduler.trained()
    first, second = "u_acme.dating.2026-05-17.001", "u_acme.dating.2026-05-17.002"
    assert await scheduler.promoted() == [second]
    answer = await scheduler.roll_back()
    assert (answer.head, answer.rolled_back_head) == (first, second)
    assert await scheduler.promoted() == [first]
    assert (await scheduler.roll_back()).head == "general"
    assert await scheduler.promoted() == []
    assert (await refused(scheduler.roll_back())).reason == "HEAD_NOT_FOUND"
    assert (await scheduler.roll_back(second)).head == second


async def test_a_head_that_failed_its_gate_cannot_be_put_in_use(scheduler: Scheduler) -> None:
    await scheduler.trained(better=False)
    refusal = await refused(scheduler.roll_back("u_acme.dating.2026-05-17.001"))
    assert refusal.reason == "HEAD_NOT_FOUND"


async def test_a_domain_past_its_budget_trains_by_itself_and_cools_down(
    scheduler: Scheduler,
) -> None:
    async def consider() -> list[str]:
        await tell_trained(scheduler.store, scheduler.triplets)
        args = (scheduler.store, scheduler.triplets, scheduler.clock, POLICY)
        return [run.job.domain for run in await consider_training(*args)]

    assert await consider() == ["dating"]
    assert await consider() == []  # it is active
    await scheduler.complete(await scheduler.lease())
    assert await consider() == []  # it is trained
    assert scheduler.triplets.trained == {"dating": 4_218}
    scheduler.triplets.counts["dating"] += 1_000
    assert await consider() == []  # it cools down
    scheduler.clock.advance(3_600)
    assert await consider() == ["dating"]
    run = (await scheduler.runs()).runs[0]
    assert (run.trigger, run.triplets_used) == ("automatic", 5_218)


async def test_the_world_is_told_of_everything_once(scheduler: Scheduler) -> None:
    await scheduler.trained()
    kinds = [kind for kind, _ in scheduler.store.events]
    assert kinds == ["run.queued", "run.started", "run.completed", "head.promoted"]
    await scheduler.roll_back()
    await scheduler.cancel((await scheduler.train(force=True)).run_id)
    kinds = [kind for kind, _ in scheduler.store.events][4:]
    assert kinds == ["head.rolled_back", "run.queued", "run.cancelled"]

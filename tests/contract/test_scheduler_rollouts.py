"""Rollouts from the gate to their end, over every scheduler's store."""

import asyncio
import dataclasses

import pytest

from services.chassis.clock import ManualClock
from services.chassis.database import EVERYONE
from services.scheduler.core.advance_rollouts import (
    abort_rollout,
    advance_rollouts,
    promote_rollout,
)
from services.scheduler.core.errors import (
    RolloutEndedError,
    RolloutNotFoundError,
    RolloutWaitingError,
)
from services.scheduler.core.head import SHARED, Head
from services.scheduler.core.pin_head import pin_head
from services.scheduler.core.ports import SchedulerStore
from services.scheduler.core.roll_back_head import roll_back_head
from services.scheduler.core.rollout import Rollout, ShadowFigures, Step
from services.scheduler.core.rollout_policy import (
    AT_ONCE,
    CanaryPolicy,
    RolloutPolicy,
    ShadowPolicy,
)
from services.scheduler.core.sequential_test import ArmCounts
from tests.support.faults import DeliberateError, act_and_fail
from tests.support.runs import CLOCK, DOMAIN, TENANT, SchedulerSetting, make_head
from tests.support.scheduler import Triplets

SHADOW = ShadowPolicy(share=0.5, matches_min=10, seconds_min=1, seconds_max=100)
CANARY = CanaryPolicy(share=0.25, outcomes_min=50, seconds_max=100, loss_max=0.1)
BOTH = RolloutPolicy(shadow=SHADOW, canary=CANARY)


@pytest.fixture
def store(scheduler_store: SchedulerStore) -> SchedulerStore:
    return scheduler_store


@pytest.fixture
def triplets() -> Triplets:
    return Triplets()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(CLOCK.now())


async def choose(
    store: SchedulerStore, policy: RolloutPolicy = BOTH, domain: str = DOMAIN, tenant: str = TENANT
) -> None:
    async with store.begin(EVERYONE) as unit:
        await unit.save_rollout_policy(tenant, domain, policy)


async def rollout_of(store: SchedulerStore, head: Head) -> Rollout:
    found = await store.read_rollout(TENANT, head.verdict.rollout_id)
    assert found is not None
    return found


async def report(
    store: SchedulerStore,
    rollout_id: str,
    server: str = "s1",
    tenant: str = TENANT,
    **content: object,
) -> None:
    figures = dataclasses.replace(ShadowFigures(), **content)  # type: ignore[arg-type]
    async with store.begin(EVERYONE) as unit:
        await unit.save_figures(TENANT, rollout_id, server, figures)


async def abort(store: SchedulerStore, rollout_id: str, tenant: str = TENANT) -> Rollout:
    async with store.begin(EVERYONE) as unit:
        return await abort_rollout(unit, CLOCK, tenant, rollout_id)


async def promote(store: SchedulerStore, rollout_id: str, tenant: str = TENANT) -> Rollout:
    async with store.begin(EVERYONE) as unit:
        return await promote_rollout(unit, CLOCK, tenant, rollout_id)


async def pin(store: SchedulerStore, head: str = "") -> None:
    async with store.begin(EVERYONE) as unit:
        await pin_head(unit, CLOCK, TENANT, DOMAIN, head)


def arm(positives: int, count: int) -> ArmCounts:
    """An arm of seekers with one outcome each."""
    return ArmCounts(
        matches_count=count,
        seekers_count=count,
        outcomes_count=count,
        positives_count=positives,
        outcomes_squared_sum=count,
        products_sum=positives,
        positives_squared_sum=positives,
    )


async def steps(store: SchedulerStore) -> list[Step]:
    """Of the tenant's rollouts, oldest first."""
    return [r.step for r in (await store.list_rollouts(TENANT, "", "", 10))[::-1]]


async def in_use(store: SchedulerStore) -> str:
    head = await store.head_in_use(TENANT, DOMAIN)
    return "" if head is None else head.head


async def test_a_domain_promotes_at_once_until_it_chooses_otherwise(store: SchedulerStore) -> None:
    assert await store.read_rollout_policy(TENANT, DOMAIN) == AT_ONCE
    await choose(store, BOTH)
    await choose(store, RolloutPolicy(canary=CANARY))
    assert await store.read_rollout_policy(TENANT, DOMAIN) == RolloutPolicy(canary=CANARY)
    for other in ((TENANT, "hiring"), ("globex", DOMAIN)):
        assert await store.read_rollout_policy(*other) == AT_ONCE
    await choose(store, AT_ONCE)
    assert (await make_head(store)).promoted
    assert await steps(store) == []


async def test_a_head_that_passes_goes_through_shadow_and_canary_into_use(
    setting: SchedulerSetting, triplets: Triplets, clock: ManualClock
) -> None:
    store = setting.store
    first = await make_head(store)
    await choose(store)
    head = await make_head(store)
    assert (head.promoted, head.verdict.result, head.verdict.passed) == (False, "rollout", True)
    begun = await rollout_of(store, head)
    assert (begun.step, begun.head, begun.incumbent) == (Step.SHADOW, head.head, first.head)
    (used,) = await store.list_promoted(("", ""), 10)
    assert used.head == first.head
    assert used.challenger is not None
    assert (used.challenger.step, used.challenger.share) == ("shadow", 0.5)
    assert (used.challenger.head, used.challenger.rollout_id) == (head.head, begun.rollout_id)

    await report(store, begun.rollout_id, matches_count=4, overlap_sum=2.0)
    await report(store, begun.rollout_id, "s2", matches_count=4)
    await report(store, begun.rollout_id, "s2", matches_count=6)  # instead of the one before
    assert [r.step for r in await advance_rollouts(store, triplets, clock)] == [Step.SHADOW]
    clock.advance(2)
    (moved,) = await advance_rollouts(store, triplets, clock)
    assert (moved.step, moved.figures.matches_count) == (Step.CANARY, 10)
    (used,) = await store.list_promoted(("", ""), 10)
    assert used.challenger is not None
    assert (used.challenger.step, used.challenger.share) == ("canary", 0.25)

    triplets.arms = (arm(48, 60), arm(60, 120))
    (ended,) = await advance_rollouts(store, triplets, clock)
    assert ended.step is Step.PROMOTED
    assert await rollout_of(store, head) == ended
    assert (ended.challenger, ended.end_time) == (arm(48, 60), clock.now())
    assert await in_use(store) == head.head
    (used,) = await store.list_promoted(("", ""), 10)
    assert used.challenger is None
    assert await advance_rollouts(store, triplets, clock) == []
    assert (await setting.events())[-5:] == [
        "run.completed",
        "rollout.shadow",
        "rollout.canary",
        "rollout.promoted",
        "head.promoted",
    ]
    (parent,) = (await store.ancestors(TENANT, head.head, 1))[:1]
    assert parent.head == first.head


async def test_a_regression_leaves_the_encoder_in_use_and_says_why(
    setting: SchedulerSetting, triplets: Triplets, clock: ManualClock
) -> None:
    store = setting.store
    await choose(store, RolloutPolicy(canary=CANARY))
    head = await make_head(store)
    (used,) = await store.list_promoted(("", ""), 10)
    assert (used.head, used.manifest_digest) == ("", "")
    assert used.challenger is not None
    triplets.arms = (arm(1, 30), arm(200, 270))
    (ended,) = await advance_rollouts(store, triplets, clock)
    assert (ended.step, ended.reason[:16]) == (Step.RETURNED, "It has regressed")
    assert await in_use(store) == ""
    assert await store.list_promoted(("", ""), 10) == []
    assert "head.promoted" not in await setting.events()
    kept = await store.read_head(TENANT, head.head)
    assert kept is not None
    assert kept.verdict.passed


async def test_an_error_of_any_server_ends_it(
    store: SchedulerStore, triplets: Triplets, clock: ManualClock
) -> None:
    await choose(store)
    head = await make_head(store)
    await report(store, head.verdict.rollout_id, matches_count=500)
    await report(store, head.verdict.rollout_id, "s2", errors_count=2, error="bad shape")
    (ended,) = await advance_rollouts(store, triplets, clock)
    assert (ended.step, ended.figures.errors_count) == (Step.RETURNED, 2)
    assert "bad shape" in ended.reason


async def test_while_arms_cannot_be_counted_only_an_error_ends_a_canary(
    store: SchedulerStore, triplets: Triplets, clock: ManualClock
) -> None:
    await choose(store, RolloutPolicy(canary=CANARY))
    await choose(store, domain="hiring")
    head, other = await make_head(store), await make_head(store, "hiring")
    triplets.reachable = False
    clock.advance(1_000)
    found = {r.domain: r.step for r in await advance_rollouts(store, triplets, clock)}
    assert found == {DOMAIN: Step.CANARY, "hiring": Step.RETURNED}
    assert (await rollout_of(store, other)).end_time == clock.now()
    await report(store, head.verdict.rollout_id, errors_count=1)
    await advance_rollouts(store, triplets, clock)
    assert (await rollout_of(store, head)).step is Step.RETURNED


async def test_looks_are_kept_and_come_ever_more_seldom(
    store: SchedulerStore, triplets: Triplets, clock: ManualClock
) -> None:
    await choose(store, RolloutPolicy(canary=CanaryPolicy(seconds_max=10_000)))
    head = await make_head(store)
    triplets.arms = (arm(3, 5), arm(5, 9))
    clock.advance(1_000)
    await advance_rollouts(store, triplets, clock)
    clock.advance(9)
    await advance_rollouts(store, triplets, clock)
    assert triplets.looks == 1
    kept = await rollout_of(store, head)
    assert (kept.step, kept.challenger, kept.incumbent_arm) == (Step.CANARY, *triplets.arms)
    clock.advance(2)
    await advance_rollouts(store, triplets, clock)
    assert triplets.looks == 2


async def test_a_head_that_passes_meanwhile_waits_and_the_newest_takes_the_place(
    store: SchedulerStore,
) -> None:
    await choose(store)
    first, second, third = [await make_head(store) for _ in range(3)]
    assert await steps(store) == [Step.SHADOW, Step.ABORTED, Step.WAITING]
    assert third.head in (await rollout_of(store, second)).reason
    with pytest.raises(RolloutWaitingError):
        await promote(store, third.verdict.rollout_id)
    assert (await abort(store, first.verdict.rollout_id)).step is Step.ABORTED
    assert await steps(store) == [Step.ABORTED, Step.ABORTED, Step.SHADOW]
    assert (await promote(store, third.verdict.rollout_id)).step is Step.PROMOTED
    assert await in_use(store) == third.head


async def test_after_a_promotion_the_one_that_waited_is_void(store: SchedulerStore) -> None:
    await choose(store)
    first = await make_head(store)
    waiting = await make_head(store)
    await promote(store, first.verdict.rollout_id)
    assert await steps(store) == [Step.PROMOTED, Step.ABORTED]
    assert "general" in (await rollout_of(store, waiting)).reason
    assert await in_use(store) == first.head


async def test_people_may_end_it_once(store: SchedulerStore) -> None:
    await choose(store)
    head = await make_head(store)
    key = head.verdict.rollout_id
    for act in (abort, promote):
        with pytest.raises(RolloutNotFoundError):
            await act(store, "ro_2020_01_01_001")
        with pytest.raises(RolloutNotFoundError):
            await act(store, key, "globex")
    assert await abort(store, key) == await abort(store, key)
    with pytest.raises(RolloutEndedError) as caught:
        await promote(store, key)
    assert caught.value.metadata["status"] == "aborted"
    again = await make_head(store)
    await promote(store, again.verdict.rollout_id)
    await promote(store, again.verdict.rollout_id)
    with pytest.raises(RolloutEndedError):
        await abort(store, again.verdict.rollout_id)


async def test_pinning_ends_what_is_under_way(setting: SchedulerSetting) -> None:
    store = setting.store
    await choose(store)
    await make_head(store)
    await make_head(store)
    await pin(store)
    assert await steps(store) == [Step.ABORTED, Step.ABORTED]
    held = await make_head(store)
    assert held.verdict.result == "held"
    assert len(await steps(store)) == 2


async def test_pinning_the_challenger_promotes_it(store: SchedulerStore) -> None:
    await choose(store)
    head = await make_head(store)
    await pin(store, head.head)
    assert await steps(store) == [Step.PROMOTED]
    assert await in_use(store) == head.head


async def test_rolling_back_ends_what_was_measured_against_the_head_in_use(
    store: SchedulerStore,
) -> None:
    await make_head(store)
    await choose(store)
    await make_head(store)
    async with store.begin(EVERYONE) as unit:
        await roll_back_head(unit, CLOCK, TENANT, DOMAIN, "")
    assert await steps(store) == [Step.ABORTED]
    assert await in_use(store) == ""


async def test_a_head_promoted_at_once_ends_what_was_measured_against_the_head_before(
    store: SchedulerStore,
) -> None:
    await choose(store)
    overtaken = await make_head(store)
    await make_head(store)
    await choose(store, AT_ONCE)
    promoted = await make_head(store)
    assert await steps(store) == [Step.ABORTED, Step.ABORTED]
    assert promoted.head in (await rollout_of(store, overtaken)).reason
    with pytest.raises(RolloutEndedError):
        await promote(store, overtaken.verdict.rollout_id)
    assert await in_use(store) == promoted.head


async def test_a_shared_head_that_is_replaced_ends_what_was_measured_against_it(
    setting: SchedulerSetting, triplets: Triplets, clock: ManualClock
) -> None:
    store = setting.store
    await choose(store, RolloutPolicy(canary=CANARY))
    against_encoder = await make_head(store)
    shared = await make_head(store, tenant=SHARED)
    triplets.arms = (arm(48, 60), arm(60, 120))  # good enough to be promoted
    (ended,) = await advance_rollouts(store, triplets, clock)
    assert (ended.step, ended.end_time) == (Step.ABORTED, clock.now())
    assert ended.reason == "general, which it was measured against, is out of use."
    assert await rollout_of(store, against_encoder) == ended
    against_shared = await make_head(store)
    assert (await rollout_of(store, against_shared)).incumbent == shared.head
    async with store.begin(EVERYONE) as unit:
        await roll_back_head(unit, CLOCK, SHARED, DOMAIN, "")
    (ended,) = await advance_rollouts(store, triplets, clock)
    assert (ended.step, ended.reason[: len(shared.head)]) == (Step.ABORTED, shared.head)
    assert await in_use(store) == ""
    assert "head.promoted" not in (await setting.events())[-4:]


async def test_rollouts_are_listed_newest_first_in_pages(store: SchedulerStore) -> None:
    await choose(store)
    await choose(store, domain="hiring")
    first, second = await make_head(store), await make_head(store)
    other = await make_head(store, "hiring")
    names = [head.verdict.rollout_id for head in (other, second, first)]

    async def listed(domain: str, before: str = "", limit: int = 10) -> list[str]:
        found = await store.list_rollouts(TENANT, domain, before, limit)
        return [rollout.rollout_id for rollout in found]

    assert await listed("") == names
    assert await listed("", limit=1) == names[:1]
    assert await listed("", names[0], 1) == names[1:2]
    assert await listed(DOMAIN) == names[1:]
    assert await listed("", "ro_2020_01_01_001") == []
    assert await store.list_rollouts("globex", "", "", 10) == []


async def test_what_fails_leaves_nothing(setting: SchedulerSetting) -> None:
    store = setting.store
    await choose(store)
    head = await make_head(store)
    before, told = await rollout_of(store, head), await setting.events()

    with pytest.raises(DeliberateError):
        await act_and_fail(
            store.begin(EVERYONE),
            lambda unit: promote_rollout(unit, CLOCK, TENANT, before.rollout_id),
        )
    assert await rollout_of(store, head) == before
    assert await in_use(store) == ""
    assert await setting.events() == told


async def test_reports_of_nothing_known_are_left_out(store: SchedulerStore) -> None:
    await report(store, "ro_2020_01_01_001", matches_count=1)
    assert await store.read_rollout(TENANT, "ro_2020_01_01_001") is None


async def test_of_a_decision_and_an_abortion_at_once_one_comes_first(
    store: SchedulerStore, triplets: Triplets, clock: ManualClock
) -> None:
    await choose(store, RolloutPolicy(canary=CANARY))
    head = await make_head(store)
    triplets.arms = (arm(48, 60), arm(60, 120))
    aborted, _ = await asyncio.gather(
        abort(store, head.verdict.rollout_id),
        advance_rollouts(store, triplets, clock),
        return_exceptions=True,
    )
    stands = await rollout_of(store, head)
    if isinstance(aborted, RolloutEndedError):
        assert stands.step is Step.PROMOTED
    else:
        assert stands.step is Step.ABORTED
    assert (await in_use(store) == head.head) == (stands.step is Step.PROMOTED)

"""Taking rollouts further: when the figures say so, when people do, and when the pointer moves.

Whoever touches a domain's rollouts holds the lock of its pointer.
"""

import dataclasses
import datetime

from services.scheduler.core.errors import (
    RolloutEndedError,
    RolloutNotFoundError,
    RolloutWaitingError,
    TripletsUnavailableError,
)
from services.scheduler.core.head import Head
from services.scheduler.core.in_use import lock_in_use, read_in_use
from services.scheduler.core.ports import Clock, SchedulerStore, SchedulerUnit, TripletCounts
from services.scheduler.core.rollout import (
    ACTIVE,
    MOVES,
    OPEN,
    Move,
    Rollout,
    Step,
    first_step,
    next_move,
)
from services.scheduler.core.verdict import GENERAL

REPLACED_REASON = "The head {} passed the gate later and waits in its place."
ABORTED_REASON = "Aborted by hand."
PROMOTED_REASON = "Promoted by hand."
OUT_OF_USE_REASON = "{}, which it was measured against, is out of use."


async def begin_rollout(unit: SchedulerUnit, rollout: Rollout) -> Rollout:
    """Keeps a new rollout: under way, or waiting for the end of the one that is."""
    others = await unit.open_rollouts(rollout.tenant, rollout.domain)
    for other in others:
        if other.step is Step.WAITING:
            reason = REPLACED_REASON.format(rollout.head)
            await _move(unit, other, Move(Step.ABORTED, reason), rollout.create_time)
    step = Step.WAITING if others else first_step(rollout.policy)
    begun = dataclasses.replace(rollout, step=step)
    await unit.save_rollout(begun)
    await unit.emit_rollout(begun)
    return begun


async def advance_rollouts(
    store: SchedulerStore, triplets: TripletCounts, clock: Clock
) -> list[Rollout]:
    """Looks at every rollout under way and moves those that are due; returns all as they are now.

    One whose arms cannot be counted stays as it is until they can, unless its challenger failed.
    One whose incumbent was a shared head, or the encoder, that another shared head has replaced
    ends here: whoever moves the pointer of a shared domain holds none of the tenants'.
    """
    found = []
    for rollout in await store.active_rollouts():
        now, seen = clock.now(), rollout
        void = _void(rollout, await read_in_use(store, rollout.tenant, rollout.domain))
        ends = void is not None or rollout.figures.errors_count > 0
        if rollout.step is Step.CANARY and not ends and rollout.look_due(now):
            key = (rollout.tenant, rollout.domain, rollout.rollout_id)
            try:
                arms = await triplets.count_arms(*key)
            except TripletsUnavailableError:
                found.append(rollout)
                continue
            seen = dataclasses.replace(
                rollout, challenger=arms[0], incumbent_arm=arms[1], look_time=now
            )
        move = void or next_move(seen, now)
        if move is not None or seen is not rollout:
            seen = await _keep(store, seen, move, now)
        found.append(seen)
    return found


async def _keep(
    store: SchedulerStore, seen: Rollout, move: Move | None, now: datetime.datetime
) -> Rollout:
    """Writes what was seen, and the move; nothing if the rollout has moved meanwhile."""
    async with store.begin(seen.tenant) as unit:
        in_use = await lock_in_use(unit, seen.tenant, seen.domain)
        stands = await unit.find_rollout(seen.tenant, seen.rollout_id)
        if stands is None or stands.step is not seen.step:
            return stands or seen
        move = _void(seen, in_use) or move
        if move is not None:
            return await _decide(unit, seen, move, now)
        await unit.save_rollout(seen)
        return seen


def _void(rollout: Rollout, in_use: Head | None) -> Move | None:
    """The end of a rollout under way whose incumbent does not answer any more; None if it does."""
    if rollout.incumbent == ("" if in_use is None else in_use.head):
        return None
    return Move(Step.ABORTED, OUT_OF_USE_REASON.format(rollout.incumbent or GENERAL))


async def abort_rollout(unit: SchedulerUnit, clock: Clock, tenant: str, rollout_id: str) -> Rollout:
    """Ends a rollout: the incumbent answers everyone.

    Raises:
        RolloutEndedError: it has been promoted or returned.
        RolloutNotFoundError: there is no such rollout.
    """
    rollout = await _locked(unit, tenant, rollout_id)
    if rollout.step is Step.ABORTED:
        return rollout
    if rollout.step not in OPEN:
        raise RolloutEndedError(rollout_id, rollout.step)
    return await _decide(unit, rollout, Move(Step.ABORTED, ABORTED_REASON), clock.now())


async def promote_rollout(
    unit: SchedulerUnit, clock: Clock, tenant: str, rollout_id: str
) -> Rollout:
    """Promotes a rollout's head to everyone, whatever the figures say.

    Raises:
        RolloutEndedError: it has been returned or aborted.
        RolloutNotFoundError: there is no such rollout.
        RolloutWaitingError: another one is under way.
    """
    rollout = await _locked(unit, tenant, rollout_id)
    if rollout.step is Step.PROMOTED:
        return rollout
    if rollout.step is Step.WAITING:
        raise RolloutWaitingError(rollout_id)
    if rollout.step not in ACTIVE:
        raise RolloutEndedError(rollout_id, rollout.step)
    return await _decide(unit, rollout, Move(Step.PROMOTED, PROMOTED_REASON), clock.now())


async def end_rollouts(
    unit: SchedulerUnit, clock: Clock, tenant: str, domain: str, *, head: str, reason: str
) -> None:
    """Ends what is open in a domain whose pointer people have moved or pinned.

    A rollout of the head that they put in use is promoted, others are aborted.
    """
    for rollout in await unit.open_rollouts(tenant, domain):
        wanted = rollout.head == head and rollout.step in ACTIVE
        step = Step.PROMOTED if wanted else Step.ABORTED
        await _move(unit, rollout, Move(step, reason), clock.now())


async def _locked(unit: SchedulerUnit, tenant: str, rollout_id: str) -> Rollout:
    found = await unit.find_rollout(tenant, rollout_id)
    if found is None:
        raise RolloutNotFoundError(rollout_id)
    await unit.lock_pointer(tenant, found.domain)
    rollout = await unit.find_rollout(tenant, rollout_id)  # as it stands under the lock
    assert rollout is not None
    return rollout


async def _decide(
    unit: SchedulerUnit, rollout: Rollout, move: Move, now: datetime.datetime
) -> Rollout:
    """Moves a rollout; at its end the pointer moves, or the one that waits begins."""
    moved = await _move(unit, rollout, move, now)
    if moved.step is Step.PROMOTED:
        await _promote(unit, moved, now)
    elif moved.step not in OPEN and rollout.step in ACTIVE:
        for waiting in await unit.open_rollouts(rollout.tenant, rollout.domain):
            await _move(unit, waiting, Move(first_step(waiting.policy)), now)
    return moved


async def _promote(unit: SchedulerUnit, rollout: Rollout, now: datetime.datetime) -> None:
    tenant, domain, head = rollout.tenant, rollout.domain, rollout.head
    reason = f"promoted by {rollout.rollout_id}"
    await unit.move_pointer(tenant, domain, head, rollout.incumbent, reason)
    found = await unit.find_head(tenant, domain, head)
    await unit.emit_head("promoted", tenant, domain, found, rollout.incumbent)
    for waiting in await unit.open_rollouts(tenant, domain):
        gone = OUT_OF_USE_REASON.format(rollout.incumbent or GENERAL)
        await _move(unit, waiting, Move(Step.ABORTED, gone), now)


async def _move(
    unit: SchedulerUnit, rollout: Rollout, move: Move, now: datetime.datetime
) -> Rollout:
    assert move.step in MOVES[rollout.step], f"{rollout.step} → {move.step}"
    moved = dataclasses.replace(
        rollout,
        step=move.step,
        reason=move.reason,
        step_time=now,
        end_time=None if move.step in OPEN else now,
    )
    await unit.save_rollout(moved)
    await unit.emit_rollout(moved)
    return moved

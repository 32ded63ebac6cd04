"""A run's attempt: what it is given, what it tells and when, and what ends it."""

import asyncio
import dataclasses
import threading

import pytest

from services.trainer.core.errors import LeaseLostError, RunCancelledError, RunPausedError
from services.trainer.core.ports import Directive, LeasedRun
from services.trainer.core.train_run import train_run
from services.trainer.core.watch import Phase, Watch
from tests.support.attempts import (
    LEARNED,
    SNAPSHOT,
    WAIT_SECONDS_MAX,
    MemoryHeads,
    MemoryScheduler,
    MemorySnapshots,
    Script,
    ScriptedLearner,
    files,
    leased,
    point,
)


class World:
    """A trainer's surroundings."""

    def __init__(self) -> None:
        self.scheduler = MemoryScheduler()
        self.store = MemoryHeads()
        self.snapshots = MemorySnapshots(self.store)
        self.learner = ScriptedLearner()
        self.warnings: list[str] = []

    async def train(self, script: Script = lambda _: None, run: LeasedRun | None = None) -> str:
        """Carries a run out."""
        self.learner = ScriptedLearner(script)
        return await train_run(
            run or leased(),
            self.scheduler,
            self.snapshots,
            self.store,
            self.learner,
            warn=lambda event, _: self.warnings.append(event),
        )

    def ended_without_a_word(self) -> bool:
        """Whether the run was neither completed nor failed."""
        return (self.scheduler.completed, self.scheduler.failures) == ([], [])


@pytest.fixture
def world() -> World:
    return World()


async def test_a_run_goes_from_snapshot_to_verdict(world: World) -> None:
    assert await world.train() == "promoted"
    assert world.snapshots.created == [7]
    assert world.learner.given == [(SNAPSHOT, None, None, 11)]
    (digest,) = world.store.contents
    assert world.store.written == [("u_acme.dating.2026-05-17.001", digest, LEARNED)]
    assert world.scheduler.completed == [("f" * 64, LEARNED.evaluation)]
    assert world.scheduler.reports[-1].snapshot_digest == digest


async def test_an_attempt_after_the_first_takes_the_snapshot_of_the_first(world: World) -> None:
    digest = await world.store.write(b"frozen before")
    await world.train(run=leased(snapshot_digest=digest))
    assert world.snapshots.created == []
    assert world.learner.given[0][0] == b"frozen before"


async def test_the_head_in_use_is_given_to_the_learner(world: World) -> None:
    world.store.heads["e" * 64] = files(b"old")
    await world.train(run=leased(incumbent="old", incumbent_manifest_digest="e" * 64))
    assert world.learner.given[0][1] == files(b"old")


async def test_heartbeats_tell_phase_and_progress_while_learning_goes_on(world: World) -> None:
    def script(watch: Watch) -> None:
        for phase, done in ((Phase.RUNNING, 3), (Phase.EVALUATING, 8), (Phase.EXPORTING, 9)):
            watch.enter(phase)
            watch.step(done, 9)
            world.scheduler.wait_until(
                lambda: any(
                    (r.phase, r.steps_done_count, r.steps_count) == (phase, done, 9)  # noqa: B023  # waited for at once
                    for r in world.scheduler.reports
                )
            )

    assert await world.train(script) == "promoted"


async def test_the_lease_is_extended_while_the_snapshot_is_made(world: World) -> None:
    world.snapshots.go_on.clear()
    training = asyncio.create_task(world.train())
    await asyncio.to_thread(world.scheduler.wait_for_beats, 3)
    assert {report.phase for report in world.scheduler.reports} == {Phase.STARTING}
    assert world.learner.given == []
    world.snapshots.go_on.set()
    assert await training == "promoted"


async def test_each_loss_point_is_told_once(world: World) -> None:
    def script(watch: Watch) -> None:
        for step in range(1, 30):
            watch.add_point(point(step))
            if step % 10 == 0:
                world.scheduler.wait_for_beats()

    await world.train(script)
    assert world.scheduler.points == [point(step) for step in range(1, 30)]
    assert len([r for r in world.scheduler.reports if r.loss_points]) > 1


async def test_what_a_lost_heartbeat_carried_is_told_again(world: World) -> None:
    def script(watch: Watch) -> None:
        world.scheduler.trouble = [ConnectionError()] * 3
        watch.add_point(point(1))
        world.scheduler.wait_until(lambda: point(1) in world.scheduler.points)

    assert await world.train(script) == "promoted"
    assert world.scheduler.points == [point(1)]
    assert world.warnings == ["heartbeat_lost"] * 3


async def test_the_last_loss_points_are_told_before_the_verdict(world: World) -> None:
    slow = leased(lease_seconds=600.0)  # no regular heartbeat comes in time
    await world.train(lambda watch: watch.add_point(point(1)), slow)
    assert world.scheduler.points == [point(1)]


async def test_a_lost_lease_stops_the_work_and_nothing_is_reported(world: World) -> None:
    done: list[int] = []

    def script(watch: Watch) -> None:
        watch.step(1, 9)
        done.append(1)
        world.scheduler.lease_lost = True
        world.scheduler.wait_for_beats()
        watch.step(2, 9)
        done.append(2)

    with pytest.raises(LeaseLostError):
        await world.train(script)
    assert done == [1]
    assert world.store.written == []
    assert world.ended_without_a_word()


async def test_a_lease_lost_after_learning_is_not_completed(world: World) -> None:
    def script(_: Watch) -> None:
        world.scheduler.lease_lost = True

    with pytest.raises(LeaseLostError):
        await world.train(script, leased(lease_seconds=600.0))
    assert world.ended_without_a_word()


async def test_a_lease_lost_at_the_very_end_is_said(world: World) -> None:
    class LateScheduler(MemoryScheduler):
        async def complete(self, *_: object) -> str:
            raise LeaseLostError

    world.scheduler = LateScheduler()
    with pytest.raises(LeaseLostError):
        await world.train()


async def test_a_cancelled_run_stops_within_one_step(world: World) -> None:
    done: list[int] = []

    def script(watch: Watch) -> None:
        for step in range(1, 9):
            watch.step(step, 9)
            done.append(step)
            if step == 3:
                world.scheduler.directive = Directive.CANCEL
                world.scheduler.wait_for_beats()

    with pytest.raises(RunCancelledError):
        await world.train(script)
    assert done == [1, 2, 3]
    assert world.ended_without_a_word()


async def test_a_run_cancelled_while_its_head_is_stored_brings_no_head(world: World) -> None:
    def script(_: Watch) -> None:
        world.scheduler.directive = Directive.CANCEL

    with pytest.raises(RunCancelledError):
        await world.train(script, leased(lease_seconds=600.0))
    assert world.ended_without_a_word()


async def test_a_learner_that_breaks_ends_the_attempt_and_its_heartbeats(world: World) -> None:
    def script(_: Watch) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await world.train(script)
    assert world.scheduler.completed == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_snapshot_that_fails_ends_the_attempt_and_its_heartbeats(world: World) -> None:
    world.store.trouble = [OSError("disk full")]
    with pytest.raises(OSError, match="disk full"):
        await world.train()
    assert world.scheduler.completed == []
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_checkpoint_is_stored_and_the_next_attempt_starts_from_it(world: World) -> None:
    def first(watch: Watch) -> None:
        for number in (1, 2):
            watch.offer_checkpoint(f"after step {number}".encode())
            watch.step(number, 9)
            world.scheduler.wait_for_beats()
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await world.train(first)
    told = world.scheduler.reports[-1]
    assert world.store.contents[told.checkpoint_digest] == b"after step 2"

    run = leased(
        token=4, snapshot_digest=told.snapshot_digest, checkpoint_digest=told.checkpoint_digest
    )
    assert await world.train(run=run) == "promoted"
    assert world.learner.given == [(SNAPSHOT, None, b"after step 2", 11)]
    assert world.snapshots.created == [7]  # by the first attempt alone
    assert world.scheduler.reports[-1].checkpoint_digest == told.checkpoint_digest


async def test_of_many_checkpoints_between_heartbeats_the_last_is_stored(world: World) -> None:
    def script(watch: Watch) -> None:
        for number in range(100):
            watch.offer_checkpoint(bytes([number]))

    await world.train(script, leased(lease_seconds=600.0))
    digest = world.scheduler.reports[-1].checkpoint_digest
    assert world.store.contents[digest] == bytes([99])
    assert sorted(map(len, world.store.contents.values())) == [1, len(SNAPSHOT)]


async def test_a_checkpoint_that_could_not_be_stored_is_tried_again(world: World) -> None:
    def script(watch: Watch) -> None:
        world.store.trouble = [OSError("no space")] * 2
        watch.offer_checkpoint(b"after step 1")
        world.scheduler.wait_until(
            lambda: any(report.checkpoint_digest for report in world.scheduler.reports)
        )

    assert await world.train(script) == "promoted"
    assert b"after step 1" in world.store.contents.values()
    assert world.warnings == ["checkpoint_lost"] * 2


async def test_a_store_that_is_away_does_not_cost_the_lease(world: World) -> None:
    def script(watch: Watch) -> None:
        world.store.trouble = [OSError("away")] * 1_000
        watch.offer_checkpoint(b"after step 1")
        before = len(world.scheduler.reports)
        world.scheduler.wait_until(lambda: len(world.scheduler.reports) >= before + 3)
        world.store.trouble = []

    assert await world.train(script) == "promoted"


def pausing(world: World) -> Script:
    """Learns until told to pause, and then does as the journal does."""

    def script(watch: Watch) -> None:
        watch.step(1, 9)
        world.scheduler.directive = Directive.PAUSE
        world.scheduler.wait_for_beats()
        assert watch.pausing
        watch.offer_checkpoint(b"after step 1")
        raise RunPausedError

    return script


async def test_a_paused_run_is_given_back_with_its_checkpoint(world: World) -> None:
    assert await world.train(pausing(world)) == "paused"
    assert world.scheduler.released == 1
    told = world.scheduler.reports[-1].checkpoint_digest
    assert world.store.contents[told] == b"after step 1"
    assert world.store.written == []
    assert world.ended_without_a_word()


async def test_a_run_that_pauses_without_a_place_for_its_checkpoint_is_given_back(
    world: World,
) -> None:
    def script(watch: Watch) -> None:
        try:
            pausing(world)(watch)
        finally:
            world.store.trouble = [OSError("away")] * 100

    assert await world.train(script) == "paused"
    assert world.scheduler.released == 1
    assert set(world.warnings) == {"checkpoint_lost"}


async def test_a_run_cancelled_while_it_pauses_is_not_given_back(world: World) -> None:
    def script(watch: Watch) -> None:
        try:
            pausing(world)(watch)
        finally:
            world.scheduler.directive = Directive.CANCEL

    with pytest.raises(RunCancelledError):
        await world.train(script)
    assert world.scheduler.released == 0


async def test_a_stopped_run_hands_over_what_it_has_learned(world: World) -> None:
    def script(watch: Watch) -> None:
        world.scheduler.directive = Directive.STOP
        world.scheduler.wait_for_beats()
        watch.step(1, 9)
        assert watch.stopping

    assert await world.train(script) == "promoted"
    assert len(world.scheduler.completed) == 1


async def test_heartbeats_come_one_at_a_time(world: World) -> None:
    class SlowScheduler(MemoryScheduler):
        at_once = 0
        most_at_once = 0

        async def heartbeat(self, *arguments: object) -> Directive:
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
            await asyncio.sleep(0.02)  # longer than the pause between two
            self.at_once -= 1
            return await super().heartbeat(*arguments)  # type: ignore[arg-type]  # passed on

    world.scheduler = scheduler = SlowScheduler()
    await world.train(lambda _: scheduler.wait_for_beats(3))
    assert scheduler.most_at_once == 1


async def test_a_trainer_that_is_stopped_leaves_no_thread_learning(world: World) -> None:
    ended = threading.Event()

    def script(watch: Watch) -> None:
        try:
            while True:
                world.scheduler.wait_for_beats(1) if world.scheduler.asked < 3 else None
                watch.step(1, 9)
        finally:
            ended.set()

    training = asyncio.create_task(world.train(script))
    await asyncio.to_thread(world.scheduler.wait_until, lambda: world.scheduler.asked >= 3)
    training.cancel()
    with pytest.raises(asyncio.CancelledError):
        await training
    assert await asyncio.to_thread(ended.wait, WAIT_SECONDS_MAX)
    assert world.ended_without_a_word()


@pytest.mark.parametrize("seconds", [0.6, 30.0, 86_400.0])
async def test_several_heartbeats_fit_into_a_lease(world: World, seconds: float) -> None:
    """A lease outlives some lost heartbeats, and a cancelled run stops within a second or so."""
    run = dataclasses.replace(leased(), lease_seconds=seconds)
    loop = asyncio.get_running_loop()
    moments: list[float] = []

    class TimingScheduler(MemoryScheduler):
        async def heartbeat(self, *arguments: object) -> Directive:
            moments.append(loop.time())
            return await super().heartbeat(*arguments)  # type: ignore[arg-type]  # passed on

    world.scheduler = scheduler = TimingScheduler()
    started = loop.time()
    await world.train(lambda _: scheduler.wait_for_beats(1), run)
    assert moments[0] - started < min(seconds / 2, 2.0)

"""A run's transitions are its history: append-only, legal, and folding to its state.

Random but seeded lives of runs are led over both stores, which must agree on everything seen.
"""

import contextlib
import itertools
import json
import random
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest

from services.chassis.author import THE_MESH, Author, set_current_author
from services.chassis.database import EVERYONE, Database
from services.scheduler.core.advance_rollouts import abort_rollout
from services.scheduler.core.cancel_run import cancel_run
from services.scheduler.core.errors import RunActiveError, RunStateError
from services.scheduler.core.lease_run import fail_run, lease_run, release_run
from services.scheduler.core.matching_policy import MatchingPolicy
from services.scheduler.core.pause_run import pause_run, resume_run
from services.scheduler.core.pin_head import pin_head, unpin_head
from services.scheduler.core.ports import SchedulerStore, SchedulerUnit
from services.scheduler.core.roll_back_head import roll_back_head
from services.scheduler.core.rollout_policy import RolloutPolicy, ShadowPolicy
from services.scheduler.core.run import ACTIVE, LEASED, MOVES, Failure, Run, State, run_id_of
from services.scheduler.core.stop_run import stop_run
from services.scheduler.core.training_policy import PolicyChoice
from services.scheduler.postgres import MIGRATIONS
from tests.support.faults import DeliberateError, act_and_fail
from tests.support.infrastructure import Servers
from tests.support.runs import (
    CLOCK,
    LONG_SECONDS,
    MOMENT,
    TENANT,
    beat,
    bring_to,
    complete,
    heartbeat_of,
    job_of,
    make_head,
    open_scheduler,
    point_of,
    postgres_setting,
    queue,
)

DOMAINS = ("dating", "hiring", "founders")
STEPS = 400
Row = tuple[str, int, str, int, int]
"""Run, number, state, attempt, token."""


@pytest.fixture
async def tables(servers: Servers, schema: str) -> AsyncIterator[Database]:
    async with servers.migrated(schema, MIGRATIONS) as opened:
        yield opened


async def transitions(tables: Database) -> list[Row]:
    rows = await tables.of(EVERYONE).fetch(
        "select run_id, number, state, attempt, token from transitions order by move_time, number"
    )
    return [tuple(row) for row in rows]


@dataclass
class Life:
    """Does one random thing after another to a store."""

    store: SchedulerStore
    chance: random.Random

    async def step(self) -> None:
        """Does something that may be refused."""
        kinds = (self._queue, self._lease, self._beat, self._complete, self._fail, self._cancel)
        often = (self._lease, self._beat, self._steer, self._complete)
        kind = self.chance.choice((*kinds, *often, *often, self._roll_back, self._release))
        await kind()

    async def _held(self) -> Run | None:
        runs = await self.store.list_runs(TENANT, "", "", 1_000)
        return self.chance.choice([run for run in runs if run.state in LEASED] or [None])

    async def _queue(self) -> None:
        domain = self.chance.choice(DOMAINS)
        try:
            await queue(self.store, domain)
        except RunActiveError:
            assert await self.store.active_run(TENANT, domain) is not None

    async def _lease(self) -> None:
        async with self.store.begin(EVERYONE) as unit:
            await lease_run(unit, "trainer-1", LONG_SECONDS)

    async def _beat(self) -> None:
        run = await self._held()
        phase = self.chance.choice([State.STARTING, State.RUNNING, State.EVALUATING])
        point = point_of(self.chance.randrange(3), self.chance.random())
        if run is not None:
            assert await beat(self.store, run, heartbeat_of(point, phase=phase))

    async def _complete(self) -> None:
        run, promoted = await self._held(), self.chance.random() < 0.5
        if run is not None:
            await complete(self.store, run, promoted=promoted)

    async def _fail(self) -> None:
        run = await self._held()
        failure = Failure("TRAINER_ERROR", "at random", retriable=self.chance.random() < 0.7)
        if run is not None:
            async with self.store.begin(EVERYONE) as unit:
                await fail_run(unit, TENANT, run.run_id, run.token, failure)

    async def _cancel(self) -> None:
        run = await self._held()
        if run is not None and self.chance.random() < 0.3:
            async with self.store.begin(EVERYONE) as unit:
                await cancel_run(unit, TENANT, run.run_id)

    async def _steer(self) -> None:
        runs = await self.store.list_runs(TENANT, "", "", 1_000)
        run = self.chance.choice([run for run in runs if run.state in ACTIVE] or [None])
        act = self.chance.choice([pause_run, resume_run, stop_run])
        with contextlib.suppress(RunStateError):
            if run is not None:
                async with self.store.begin(EVERYONE) as unit:
                    await act(unit, TENANT, run.run_id)

    async def _release(self) -> None:
        run = await self._held()
        if run is not None:
            async with self.store.begin(EVERYONE) as unit:
                await release_run(unit, TENANT, run.run_id, run.token)

    async def _roll_back(self) -> None:
        domain = self.chance.choice(DOMAINS)
        async with self.store.begin(EVERYONE) as unit:
            if await unit.lock_pointer(TENANT, domain) is not None:
                await roll_back_head(unit, CLOCK, TENANT, domain, "")


async def seen(store: SchedulerStore) -> list[object]:
    """All that a store shows, without times and the day."""
    listed = await store.list_runs(TENANT, "", "", 1_000)
    runs = [await store.read_run(TENANT, run.run_id) for run in listed]
    heads = [head for domain in DOMAINS for head in await store.list_heads(TENANT, domain, "", 99)]
    return [
        [
            replace(
                run,
                run_id=run.run_id[-3:],
                head=run.head[-3:],
                incumbent=run.incumbent[-3:],
                create_time=MOMENT,
                start_time=run.start_time and MOMENT,
                end_time=run.end_time and MOMENT,
                verdict=run.verdict and replace(run.verdict, incumbent=""),
            )
            for run in runs
            if run is not None
        ],
        [(head.domain, head.head[-3:], head.parent[-3:], head.promoted) for head in heads],
        [(h.domain, h.head[-3:], h.tier) for h in await store.list_promoted(("", ""), 99)],
        sorted(run.run_id[-3:] for run in await store.untold_runs(99)),
        await store.queued_count(),
    ]


@pytest.mark.parametrize("seed", range(3))
async def test_the_same_life_looks_the_same_in_both_stores(servers: Servers, seed: int) -> None:
    async with (
        open_scheduler("memory", servers) as memory,
        open_scheduler("postgres", servers) as postgres,
    ):
        lives = [Life(setting.store, random.Random(seed)) for setting in (memory, postgres)]
        for _ in range(STEPS):
            for life in lives:
                await life.step()
        in_memory, in_postgres = [await seen(life.store) for life in lives]
        assert in_memory == in_postgres
        assert await memory.events() == await postgres.events()
        states = {run.state for run in await memory.store.list_runs(TENANT, "", "", 1_000)}
        assert {State.SUCCEEDED, State.STOPPED, State.FAILED, State.CANCELLED} <= states


async def test_transitions_are_legal_only_added_and_fold_to_the_state_of_their_run(
    tables: Database,
) -> None:
    life = Life(postgres_setting(tables).store, random.Random(11))
    before: list[Row] = []
    for _ in range(STEPS):
        await life.step()
        now = await transitions(tables)
        assert now[: len(before)] == before
        before = now
    of_run: dict[str, list[Row]] = defaultdict(list)
    for row in before:
        of_run[row[0]].append(row)
    for history in of_run.values():
        assert [row[1] for row in history] == list(range(1, len(history) + 1))
        states = [State(row[2]) for row in history]
        assert states[0] is State.QUEUED
        assert all(after in MOVES[state] for state, after in itertools.pairwise(states))
        assert [row[4] for row in history] == sorted(row[4] for row in history)
    runs = await tables.of(EVERYONE).fetch("select run_id, state, attempt, token from runs")
    assert len(runs) > 10
    assert {tuple(run) for run in runs} == {
        (run_id, *history[-1][2:]) for run_id, history in of_run.items()
    }


async def test_a_unit_that_fails_adds_no_transition(tables: Database) -> None:
    store = postgres_setting(tables).store
    run = await queue(store)
    before = await transitions(tables)

    async def act(unit: SchedulerUnit) -> None:
        leased = await unit.start_lease(run, "trainer-1", LONG_SECONDS, "")
        await unit.move_run(leased, State.RUNNING)
        await unit.add_run(job_of("hiring"))

    with pytest.raises(DeliberateError):
        await act_and_fail(store.begin(EVERYONE), act)
    assert await transitions(tables) == before
    assert [row[:3] for row in before] == [(run_id_of(run.create_time.date(), 1), 1, "queued")]


async def test_a_token_that_a_failed_unit_drew_is_never_given_again(tables: Database) -> None:
    store = postgres_setting(tables).store
    run = await queue(store)
    drawn: list[int] = []

    async def act(unit: SchedulerUnit) -> None:
        drawn.append((await unit.start_lease(run, "trainer-1", LONG_SECONDS, "")).token)

    with pytest.raises(DeliberateError):
        await act_and_fail(store.begin(EVERYONE), act)
    assert (await bring_to(store, run, State.STARTING)).token > drawn[0]


async def test_each_move_is_kept_with_its_author(tables: Database) -> None:
    store = postgres_setting(tables).store
    author = Author("key k1", "request-1")
    set_current_author(author)
    run = await queue(store)
    set_current_author(THE_MESH)
    leased = await bring_to(store, run, State.STARTING)
    set_current_author(author)
    await complete(store, leased)
    moves = await tables.of(EVERYONE).fetch(
        "select author, request_id from transitions order by number"
    )
    promoted = await tables.of(EVERYONE).fetch("select author, request_id from promotions")
    assert [tuple(row) for row in moves] == [author, THE_MESH, author]
    assert [tuple(row) for row in promoted] == [author]


async def test_each_choice_and_decision_is_kept_with_its_author(tables: Database) -> None:
    store = postgres_setting(tables).store
    author = Author("key k1", "request-1")
    set_current_author(author)
    policy = RolloutPolicy(shadow=ShadowPolicy())
    async with store.begin(TENANT) as unit:
        await unit.save_policy(TENANT, "dating", PolicyChoice(triplets_budget=7))
        await unit.save_matching_policy(TENANT, "dating", MatchingPolicy(exploration=0.25))
        await unit.save_rollout_policy(TENANT, "dating", policy)
    head = await make_head(store, "dating")
    async with store.begin(TENANT) as unit:
        await abort_rollout(unit, CLOCK, TENANT, head.verdict.rollout_id)
        await pin_head(unit, CLOCK, TENANT, "dating", "")
        await unpin_head(unit, TENANT, "dating")
        await unit.delete_head(TENANT, head.head)
    rows = await tables.of(EVERYONE).fetch("select * from changes order by change_id")
    assert {(row["author"], row["request_id"]) for row in rows} == {author}
    assert [(row["kind"], row["name"]) for row in rows] == [
        *((f"{kind}_policy", "dating") for kind in ("training", "matching", "rollout")),
        *[("rollout", head.verdict.rollout_id)] * 2,
        *[("pin", "dating")] * 2,
        ("model", head.head),
    ]
    values = [row["value"] for row in rows]
    assert json.loads(values[0])["triplets_budget"] == 7
    assert json.loads(values[1]) == {"exploration": 0.25}
    assert values[3:] == ["shadow", "aborted", "true", "false", "deleted"]

"""The scheduler's rules: they hold of what use cases leave behind, and each sees what breaks it."""

import datetime
import hashlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from services.chassis.database import EVERYONE, Database
from services.chassis.invariants import Rule
from services.scheduler.core.errors import ArtifactsUnavailableError, FieldInvalidError
from services.scheduler.core.lease_run import expire_leases, fail_run
from services.scheduler.core.ports import Manifests, SchedulerStore
from services.scheduler.core.roll_back_head import roll_back_head
from services.scheduler.core.rollout_policy import RolloutPolicy, ShadowPolicy
from services.scheduler.core.run import ACTIVE, AGE_MAX, Failure, State
from services.scheduler.invariants import scheduler_rules
from services.scheduler.postgres import MIGRATIONS
from tests.support.infrastructure import Servers
from tests.support.planted import assert_seen, broken, findings_of, load_plants
from tests.support.runs import (
    CLOCK,
    DOMAIN,
    LONG_SECONDS,
    TENANT,
    beat,
    bring_to,
    heartbeat_of,
    lease,
    make_head,
    postgres_setting,
    queue,
    queue_files,
)

DIGESTS = """
update heads
set manifest_digest = encode(sha256((tenant || '/' || domain || ' ' || head)::bytea), 'hex')
"""
PUBLISHED = "update outbox set publish_time = now() where publish_time is null"

PLANTS = load_plants(Path(__file__).parent / "scheduler_violations.sql")


CHECKPOINT = "ee" * 32


class StoredManifests:
    """A store that holds what the digests of a head's name, and of one checkpoint, stand for."""

    def __init__(self, names: Sequence[str]) -> None:
        self._names = {hashlib.sha256(name.encode()).hexdigest(): name for name in names}
        self.reachable = True

    async def has(self, digest: str) -> bool:
        if not self.reachable:
            raise ArtifactsUnavailableError(digest)
        return digest in self._names or digest == CHECKPOINT

    async def read_told(self, digest: str) -> SimpleNamespace:
        if not await self.has(digest):
            raise FieldInvalidError("manifest_digest", "is stored nowhere")
        place, head = self._names[digest].split(" ")
        tenant, domain = place.split("/")
        return SimpleNamespace(tenant=tenant, domain=domain, head=head)


NAMES = [f"{TENANT}/{DOMAIN} u_{TENANT}.{DOMAIN}.{{}}.{number:03d}" for number in range(100)]


def manifests_of_today() -> StoredManifests:
    """Manifests of whatever heads the test makes."""
    today = f"{datetime.datetime.now(datetime.UTC):%Y-%m-%d}"
    return StoredManifests([name.format(today) for name in NAMES])


def rules_of(database: Database, manifests: StoredManifests | None = None) -> list[Rule]:
    """The rules over the schema; the first two, which are dropped, are the server's."""
    stored = cast("Manifests", manifests or manifests_of_today())
    return scheduler_rules(database, stored, LONG_SECONDS)[2:]


@pytest.fixture
async def lived(servers: Servers, schema: str) -> AsyncIterator[Database]:
    """A schema in which much has happened."""
    async with servers.owned(schema, MIGRATIONS) as opened:
        await live(postgres_setting(opened).store)
        await opened.of(EVERYONE).execute(PUBLISHED)
        await opened.of(EVERYONE).execute(DIGESTS)
        yield opened


async def live(store: SchedulerStore) -> None:
    """Runs in every state, lost leases, heads promoted, held and rolled back."""
    for state in State:
        await bring_to(store, await queue(store, f"in-{state}"), state)
    for run in [await queue(store), await queue_files(store)]:
        async with store.begin(EVERYONE) as unit:
            await unit.move_run(run, State.CANCELLED)
    await drain(store)
    for promoted in (True, False, True):
        await make_head(store, promoted=promoted)
    async with store.begin(EVERYONE) as unit:
        await roll_back_head(unit, CLOCK, TENANT, DOMAIN, "")
    await make_head(store)
    async with store.begin(EVERYONE) as unit:
        await unit.save_rollout_policy(TENANT, "rolled", RolloutPolicy(shadow=ShadowPolicy()))
    await make_head(store, "rolled")
    await queue(store, "lost")
    for _ in range(2):
        run = await lease(store)
        async with store.begin(EVERYONE) as unit:
            failure = Failure("TRAINER_FAILED", "It broke.", retriable=True)
            await fail_run(unit, TENANT, run.run_id, run.token, failure)
    await lease(store, seconds=-1)
    async with store.begin(EVERYONE) as unit:
        assert len(await expire_leases(unit)) == 1
    await queue(store, "leased")
    await beat(store, await lease(store), heartbeat_of(checkpoint_digest=CHECKPOINT))


async def drain(store: SchedulerStore) -> None:
    """Takes what waits out of the queue: others come after it."""
    while (run := (await store.active_run(TENANT, f"in-{State.QUEUED}"))) is not None:
        async with store.begin(EVERYONE) as unit:
            await unit.move_run(run, State.CANCELLED)


async def test_each_violation_is_named_by_its_rule(lived: Database) -> None:
    await assert_seen(lived, rules_of, PLANTS)


async def test_an_empty_schema_holds(servers: Servers, schema: str) -> None:
    async with servers.migrated(schema, MIGRATIONS) as empty:
        assert broken(await findings_of(rules_of(empty))) == {}


async def test_artifacts_out_of_reach_leave_their_rules_unchecked(lived: Database) -> None:
    manifests = manifests_of_today()
    manifests.reachable = False
    found = [f for f in await findings_of(rules_of(lived, manifests)) if f.unchecked]
    assert [finding.rule.invariant for finding in found] == ["I7", "I8", "I11"]
    assert {finding.unchecked for finding in found} == {"the artifact store does not answer"}


def test_every_state_that_is_no_end_has_a_maximum_age() -> None:
    assert set(AGE_MAX) == ACTIVE

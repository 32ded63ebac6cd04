"""What the parties of the control plane share: store, clock, stage and the judge of commits."""

import datetime
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from services.chassis.bus import PublishError
from services.chassis.clock import ManualClock
from services.chassis.copies import copy_changeable
from services.chassis.database import EVERYONE
from services.scheduler.core.errors import SchedulerError
from services.scheduler.core.ports import DomainCounts, SchedulerUnit
from services.scheduler.core.sequential_test import ArmCounts
from services.scheduler.memory import MemorySchedulerStore
from services.serving.core.errors import ServingError
from tests.support.simulation.rules import Holder, RunKey, StoreRules
from tests.support.simulation.stage import Stage, Stepped, Turn

TENANT = "acme"
DOMAINS = ("dating", "hiring")
SCHEDULERS = ("scheduler-1", "scheduler-2")
START = datetime.datetime(2026, 5, 17, 12, tzinfo=datetime.UTC)
LEASE_SECONDS = 30.0
FAULTS = 0.3
"""At most such a share of what may fail does, in a schedule."""
GATE_SHARE = 0.75
"""Of the heads that pass."""
_ANSWERS = (SchedulerError, ServingError, ConnectionError, PublishError)
Answer = TypeVar("Answer")
Act = Callable[[SchedulerUnit], Awaitable[Answer]]


@dataclass
class Triplets:
    """The triplet store as far as training needs it."""

    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DOMAINS, 60))
    trained: dict[str, int] = field(default_factory=lambda: dict.fromkeys(DOMAINS, 0))
    arms: tuple[ArmCounts, ArmCounts] = (ArmCounts(), ArmCounts())

    async def get(self, tenant: str, domain: str) -> DomainCounts:
        """Counts of a domain."""
        return DomainCounts(
            tenant=tenant,
            domain=domain,
            revision=self.counts[domain],
            triplets_count=self.counts[domain],
            positives_count=0,
            trained_triplets_count=self.trained[domain],
        )

    async def list(self) -> list[DomainCounts]:
        """Counts of all."""
        return [await self.get(TENANT, domain) for domain in DOMAINS if self.counts[domain]]

    async def count_arms(self, *_: str) -> tuple[ArmCounts, ArmCounts]:
        """What both arms have brought."""
        return self.arms

    async def record_training(self, _tenant: str, domain: str, triplets_count: int) -> None:
        """Remembers what the last run saw."""
        self.trained[domain] = triplets_count


class Store:
    """The store as one request sees it: steps between its calls, and a judge at its commit."""

    def __init__(self, plane: "Plane", asked: str, holder: Holder | None = None) -> None:
        self._plane = plane
        self._asked = asked
        self._holder = holder

    @asynccontextmanager
    async def begin(self, tenant: str) -> AsyncIterator[SchedulerUnit]:
        """Opens a unit once there is no other."""
        plane = self._plane
        await Turn(lambda: not plane.writing)
        plane.writing = True
        try:
            before, began = plane.store._state, plane.clock.now()
            async with plane.store.begin(tenant) as unit:
                yield Stepped(unit, plane.stage)
                await Turn()
            ended, after = plane.clock.now(), plane.store._state
            plane.rules.judge(self._asked, self._holder, before, after, (began, ended))
        finally:
            plane.writing = False
        await Turn()

    def __getattr__(self, name: str) -> Any:
        return getattr(Stepped(self._plane.store, self._plane.stage), name)


class Plane:
    """Everything that several parties touch."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.stage = Stage(self.random, _ANSWERS)
        self.faults = FAULTS * self.random.random()
        self.gate = GATE_SHARE
        self.clock = ManualClock(START)
        """The database's. Schedulers ask it: what their own clocks say is nowhere used."""
        self.store = MemorySchedulerStore(self.clock)
        self.writing = False
        """Whether a unit is open."""
        self.rules = StoreRules(datetime.timedelta(seconds=LEASE_SECONDS))
        self.triplets = Triplets()
        self.acknowledged: set[RunKey] = set()

    def begin_after(self, past: "Plane") -> None:
        """Goes on from where another has come to rest."""
        self.clock.advance((past.clock.now() - START).total_seconds())
        self.store._state = copy_changeable(past.store._state)
        self.store._told = set(past.store._told)
        self.rules = copy_changeable(past.rules)
        self.triplets = copy_changeable(past.triplets)

    async def ask(self, asked: str, act: Act[Answer], holder: Holder | None = None) -> Answer:
        """Does something in a unit of its own."""
        async with Store(self, asked, holder).begin(EVERYONE) as unit:
            return await act(unit)

    def is_busy(self, party: str, name: str) -> bool:
        """Says whether a party is about something."""
        return any((one.party, one.name) == (party, name) for one in self.stage.activities)

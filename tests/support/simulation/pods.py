"""Serving processes: the real swapper over a scheduler and artifacts that fail, and their rules."""

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from services.scheduler.core.head import PromotedHead
from services.scheduler.memory import MemorySchedulerStore
from services.serving.core.candidates import Floats, Mask, Partition, Rows, View
from services.serving.core.errors import HeadRefusedError
from services.serving.core.loaded_head import GENERAL, ServedDomain
from services.serving.core.ports import (
    CANARY,
    DesiredChallenger,
    DesiredHead,
    HeadBundle,
    Index,
)
from services.serving.core.shadow import TrialJournal
from services.serving.core.swap_heads import HeadSwapper, Registry
from tests.support.candidates import LAYOUT, NOW, partition, rows
from tests.support.simulation.stage import Stage, Turn, require

INDEX_ROWS_MIN = 1
"""Small domains are indexed too, as large ones are."""
_ENCODER_PROBES = 1
_PEOPLE = 3
DOMAINS_MAX = 100
DomainKey = tuple[str, str]


class _Scorers:
    """Marks what it makes with the number of its head."""

    def __init__(self, number: int) -> None:
        self.number = number

    def map_query(self, columns_c: Floats, vector_d: Floats) -> Floats:
        return np.full(len(vector_d), self.number, np.float32)

    def describe(self, columns_nc: Floats, counts_n4: Floats, table_n2: Floats) -> Floats:
        return table_n2

    def score_light(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        return cosines_n

    def score_cross(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        return cosines_n


class _Index:
    """Calibrated, it probes as many lists as the number of the head whose queries it was shown."""

    def __init__(self, view: View) -> None:
        self.rows, self.generation = view.size, view.generation

    def search(self, query: Floats, mask: Mask, top_k: int, probes_count: int) -> Rows:
        raise NotImplementedError

    def calibrate(self, queries: Floats) -> tuple[int, float]:
        first = float(queries[0, 0])
        whole = bool((queries == first).all())
        return (int(first) if whole else _ENCODER_PROBES), 1.0


@cache
def number_of(head: str) -> int:
    """A number that marks a head; none is the encoder's."""
    return 2 + int.from_bytes(head.encode()) % 1_000_003


@cache
def _bundle(tenant: str, domain: str, head: str, tier: str) -> HeadBundle:
    number = number_of(head)
    return HeadBundle(
        tenant=tenant,
        domain=domain,
        head=head,
        tier=tier,
        encoder=LAYOUT.encoder,
        dim=LAYOUT.dim,
        columns=(("age", "integer", ()),),
        table=np.full((_PEOPLE, 2), number, np.float32),
        scorers=_Scorers(number),
        run_id=head,
    )


@cache
def _people(which: int) -> Partition:
    """One of two sets of candidates: the second replaces the first when a domain is sent anew."""
    return partition(rows(list(range(_PEOPLE)), seed=which))


class _Registry(Registry):
    """Judges each swap."""

    def __init__(self, pod: "Pod") -> None:
        super().__init__(pod)
        self._pod = pod

    def put(self, key: DomainKey, served: ServedDomain) -> None:
        check_whole(served)
        self._pod.check_wanted(key, served)
        super().put(key, served)


@dataclass
class Pod:
    """One serving process. It dies by being replaced."""

    name: str
    stage: Stage
    store: MemorySchedulerStore
    faults: float
    seconds: float = 0.0
    syncing: bool = False
    wanted: dict[DomainKey, str] = field(default_factory=dict)
    """What the scheduler said last, as far as this process has heard."""

    def __post_init__(self) -> None:
        self.registry = _Registry(self)
        self.swapper = HeadSwapper(
            self.registry,
            self,
            self,
            self,
            self,
            observe=lambda *_: None,
            journal=TrialJournal(lambda *_: None),
        )

    def now(self) -> datetime.datetime:
        """As the clock."""
        return NOW

    def monotonic(self) -> float:
        """As the clock."""
        return self.seconds

    async def list(self) -> Sequence[DesiredHead]:
        """As the scheduler: the answer may be old when it arrives."""
        await Turn()
        self._fail()
        found = [_desired(one) for one in await self.store.list_promoted(("", ""), DOMAINS_MAX)]
        await Turn()
        self.wanted = {(one.tenant, one.domain): one.head for one in found}
        return found

    async def load(self, desired: DesiredHead) -> HeadBundle:
        """As the artifact store."""
        await Turn()
        self._fail()
        if self.stage.chance(self.faults):
            raise HeadRefusedError("gives another cross than its golden vectors say")
        await Turn()
        return _bundle(desired.tenant, desired.domain, desired.head, desired.tier)

    def build(self, view: View) -> Index:
        """As faiss."""
        return _Index(view)

    def install(self, key: DomainKey) -> None:
        """A domain's candidates are there, or come anew."""
        served = self.registry.domains.get(key)
        again = served is not None and served.partition is _people(0)
        self.registry.install(key, _people(int(again)))

    async def sync(self) -> None:
        """As the loop that follows hints and the timer: one at a time."""
        await Turn(lambda: not self.syncing)
        self.syncing = True
        try:
            await self.swapper.sync()
        except ExceptionGroup as errors:
            _, others = errors.split(ConnectionError)  # which the artifact store may answer with
            raise (others or errors).exceptions[0] from None
        finally:
            self.syncing = False

    async def match(self, key: DomainKey, seeker: str) -> None:
        """A match: it holds what it took, whatever is swapped meanwhile."""
        served = self.registry.domains[key].for_seeker(seeker)
        head = served.head.head
        for _ in range(3):
            await Turn()
            check_whole(served)
            require(served.head.head == head, "I10", f"{head} became {served.head.head}")

    def check_wanted(self, key: DomainKey, served: ServedDomain) -> None:
        """A swap goes to what the scheduler said last, or stays where it is, or falls back."""
        before = self.registry.domains.get(key)
        allowed = {self.wanted.get(key, ""), GENERAL if before is None else _name(before)}
        name = _name(served)
        right = name in allowed or name == GENERAL
        require(right, "I10", f"{self.name} went to {name}; wanted is {self.wanted.get(key)}")

    def _fail(self) -> None:
        if self.stage.chance(self.faults):
            raise ConnectionError


def _name(served: ServedDomain) -> str:
    return GENERAL if served.head.bundle is None else served.head.head


def _desired(one: PromotedHead) -> DesiredHead:
    challenger = one.challenger
    return DesiredHead(
        one.tenant,
        one.domain,
        one.head,
        one.tier,
        one.manifest_digest,
        one.exploration,
        None if challenger is None else DesiredChallenger(**dataclasses.asdict(challenger)),
    )


def check_whole(served: ServedDomain) -> None:
    """Everything that ranks belongs to one head and one set of candidates.

    Raises:
        Violation: it was swapped by half.
    """
    head, number = served.head, _ENCODER_PROBES
    if head.bundle is not None:
        number = number_of(head.bundle.head)
        names = head.head == head.bundle.head == head.run_id
        require(names, "I10", f"{head.head} has the bundle of {head.bundle.head}")
        mine = head.scorers is head.bundle.scorers and head.table[0, 0] == number
        require(mine, "I10", f"{head.head} has another's scorers or table")
    if served.index is not None:
        fits = served.index.generation == served.partition.view.generation
        require(fits, "I10", f"{head.head} has an index of other candidates")
        tuned = served.probes_count == number
        require(tuned, "I10", f"{head.head} probes as another head does")
    if served.trial is not None:
        challenger = served.trial.challenger
        beside = challenger.partition is served.partition and challenger.index is served.index
        require(beside, "I10", f"{challenger.head.head} ranks other candidates")
        named = challenger.head.head == served.trial.desired.head
        require(named, "I10", f"{challenger.head.head} is on trial for another")
        arms = served.arm.name != "" and challenger.arm.name != ""
        require(arms == (served.trial.desired.step == CANARY), "I10", "an arm without a canary")
        check_whole(challenger)
    else:
        require(served.arm.name in ("", "challenger"), "I10", "an arm without a trial")

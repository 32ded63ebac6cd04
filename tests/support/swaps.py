"""A registry with one domain, and a scheduler and heads as a test wants them."""

import datetime

import numpy as np

from services.serving.core.candidates import Floats, Layout, Mask, Rows, View
from services.serving.core.errors import HeadRefusedError
from services.serving.core.follow_profiles import ProfileFollower
from services.serving.core.ports import DesiredHead, HeadBundle, Index
from services.serving.core.shadow import TrialJournal
from services.serving.core.swap_heads import HeadSwapper, Registry
from tests.support.candidates import LAYOUT, rows

KEY = ("acme", "dating")
HEAD_1 = DesiredHead("acme", "dating", "u_acme.dating.2026-05-17.001", "tenant", "1" * 64)
HEAD_2 = DesiredHead("acme", "dating", "u_acme.dating.2026-05-17.002", "tenant", "2" * 64)
DOMAIN_1, DOMAIN_2 = (
    DesiredHead("_shared", "dating", f"dating.2026-05-17.00{n}", "domain", f"{n}" * 64)
    for n in (1, 2)
)
AGE = ("age", "integer", ())


class Clock:
    """A clock that stands still."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime.datetime:
        return datetime.datetime(2026, 5, 17, tzinfo=datetime.UTC)

    def monotonic(self) -> float:
        return self.seconds


class Scorers:
    """Scores everyone alike."""

    def map_query(self, columns_c: Floats, vector_d: Floats) -> Floats:
        return vector_d

    def describe(self, columns_nc: Floats, counts_n4: Floats, table_n2: Floats) -> Floats:
        return np.concatenate([columns_nc, counts_n4, table_n2], axis=1)

    def score_light(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        return np.zeros(len(candidates_nk), np.float32)

    def score_cross(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        return np.full(len(candidates_nk), 0.5, np.float32)


class World:
    """A registry with one domain, a scheduler that says what `desired` holds, bundles as given."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.registry = Registry(self.clock)
        self.journal = TrialJournal(lambda *_: None)
        self.desired: list[DesiredHead] = []
        self.columns: dict[str, tuple[tuple[str, str, tuple[str, ...]], ...]] = {}
        self.known = {"domain": 0}
        """People in a head's table, by tier."""
        self.broken: set[str] = set()
        self.unreachable: set[str] = set()
        self.loads: list[str] = []
        self.results: list[str] = []
        self.swapper = HeadSwapper(
            self.registry,
            self,
            self,
            self,
            self.clock,
            observe=lambda result, _: self.results.append(result),
            journal=self.journal,
        )
        self.follower = ProfileFollower(self.registry)
        self.fill(LAYOUT, list(range(10)))

    def fill(self, layout: Layout, numbers: list[int], revision: int = 1) -> None:
        """Sends people through the profile stream."""
        self.follower.apply(KEY, layout, profiles=rows(numbers), tallies=None, revision=0)
        self.follower.apply(KEY, layout, profiles=None, tallies=None, revision=revision)

    async def list(self) -> list[DesiredHead]:
        """As the scheduler."""
        return self.desired

    async def load(self, desired: DesiredHead) -> HeadBundle:
        """As the artifact store."""
        self.loads.append(desired.head)
        if desired.head in self.unreachable:
            raise ConnectionError
        if desired.head in self.broken:
            raise HeadRefusedError("gives another cross than its golden vectors say")
        return HeadBundle(
            tenant=desired.tenant,
            domain=desired.domain,
            head=desired.head,
            tier=desired.tier,
            encoder="test",
            dim=8,
            columns=self.columns.get(desired.head, (AGE,)),
            table=np.zeros((self.known.get(desired.tier, 10), 2), np.float32),
            scorers=Scorers(),
        )

    def build(self, view: View) -> Index:
        """As faiss."""
        return StillIndex(view)

    @property
    def in_use(self) -> str:
        """Head in use."""
        return self.registry.domains[KEY].head.head


class StillIndex:
    """An index that finds nobody."""

    def __init__(self, view: View) -> None:
        self.rows = view.size
        self.generation = view.generation

    def search(self, query: Floats, mask: Mask, top_k: int, probes_count: int) -> Rows:
        return np.zeros(0, np.intp)

    def calibrate(self, queries: Floats) -> tuple[int, float]:
        assert queries.shape[1] == 8
        return 12, 0.993

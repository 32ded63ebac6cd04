"""What ranks a domain: head, candidates, index and calibration as one immutable bundle.

A match takes one reference to it and keeps it to its end, so no match ever sees half a swap.
"""

import datetime
import hashlib
from dataclasses import dataclass, field

import numpy as np

from services.serving.core.candidates import Floats, Layout, Partition, Rows, View
from services.serving.core.errors import HeadRefusedError
from services.serving.core.factors import Factors
from services.serving.core.ports import CANARY, DesiredChallenger, HeadBundle, Index, Scorers
from services.serving.core.states import States

TENANT_TIER, DOMAIN_TIER, GENERAL = "tenant", "domain", "general"
"""The most specific first."""
CHALLENGER = "challenger"
INCUMBENT = "incumbent"
_DRAWS = 2**64
SAMPLE_ROWS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedHead:
    """What ranks the matches of one domain. Without scorers it is the general tier: the encoder."""

    head: str
    tier: str
    scorers: Scorers | None
    columns: Rows
    """Where each column that the head reads stands in the domain's features."""
    table: Floats
    """[users + 1, 2] What the head has learned of single people, and zeros."""
    factors: Factors | None = None
    """Its own vectors of candidates, where it learned such."""
    bundle: HeadBundle | None = None
    """What it was fitted from, to fit it anew when the domain's schema grows."""

    @property
    def run_id(self) -> str:
        """Run of the tenant's that made it; empty in the other tiers."""
        return self.bundle.run_id if self.bundle and self.tier == TENANT_TIER else ""

    def describe(self, view: View, rows: Rows, counts_n4: Floats) -> Floats:
        """States [rows, k] of the people in some rows, from what outcomes say of them."""
        assert self.scorers is not None
        # Whoever came after the training shares the row of zeros at the table's end.
        table = self.table[np.minimum(view.numbers[rows], len(self.table) - 1)]
        return self.scorers.describe(view.features[rows][:, self.columns], counts_n4, table)

    def map_query(self, view: View, row: int) -> Floats:
        """The seeker's vector in the candidates' space."""
        vector: Floats = view.vectors[row]
        if self.scorers is None:
            return vector
        return self.scorers.map_query(view.features[row, self.columns], vector)


@dataclass(frozen=True, slots=True)
class Arm:
    """The side of a canary that ranks; neither where there is none."""

    rollout_id: str = ""
    name: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """A head on trial, ready to rank the same candidates as the one in use."""

    desired: DesiredChallenger
    challenger: "ServedDomain"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedDomain:
    """Everything that a match in one domain needs."""

    partition: Partition
    head: LoadedHead
    index: Index | None = None
    probes_count: int = 0
    """Lists that the index probes per query, calibrated on this head's own queries."""
    recall: float = 1.0
    """Recall@100 at that many probes; 1 for an exact scan."""
    factor_index: Index | None = None
    """Over the head's own vectors, where it has such and the domain is large."""
    factor_probes_count: int = 0
    load_time: datetime.datetime
    trial: Trial | None = None
    arm: Arm = Arm()
    states: States = field(default_factory=States, init=False)

    def for_seeker(self, user_id: str) -> "ServedDomain":
        """What ranks for a seeker: in a canary the challenger for a share of them.

        Who gets it is a hash of rollout and seeker, so it is the same in every process and match.
        """
        trial = self.trial
        if trial is None or trial.desired.step != CANARY:
            return self
        salt = trial.desired.rollout_id.encode()[: hashlib.blake2b.MAX_KEY_SIZE]
        digest = hashlib.blake2b(user_id.encode(), digest_size=8, key=salt).digest()
        drawn = int.from_bytes(digest) / _DRAWS < trial.desired.share
        return trial.challenger if drawn else self

    def describe(self, view: View, rows: Rows) -> Floats:
        """States [rows, k] of the people in some rows, as far as possible remembered."""
        return self.states.of(self.partition, view, rows, self.head.describe)

    def query_history(self, view: View, row: int) -> Floats:
        """What a seeker asks the head's own vectors with: the history less whoever is gone."""
        assert self.head.factors is not None
        history = self.partition.seen.history(int(view.numbers[row]))
        history = history[history < len(view.row_of)]
        return self.head.factors.query(history[view.row_of[history] >= 0])


def general_head(layout: Layout) -> LoadedHead:
    """The general tier of a domain: query map = identity."""
    return LoadedHead(
        head=layout.encoder,
        tier=GENERAL,
        scorers=None,
        columns=np.zeros(0, np.intp),
        table=np.zeros((1, 0), np.float32),
    )


def fit_head(bundle: HeadBundle, layout: Layout) -> LoadedHead:
    """Binds a head to a domain's columns.

    Raises:
        HeadRefusedError: the domain's schema or encoder is not what the head was trained on, or a
            domain head knows single people, who are some tenant's.
    """
    if bundle.tier == DOMAIN_TIER and (len(bundle.table) or bundle.factors is not None):
        raise HeadRefusedError("is a domain's and knows single people")
    if (bundle.encoder, bundle.dim) != (layout.encoder, layout.dim):
        raise HeadRefusedError(
            f"reads {bundle.dim} numbers of {bundle.encoder}, "
            f"the domain has {layout.dim} of {layout.encoder}"
        )
    places = {field.name: index for index, field in enumerate(layout.columns)}
    columns: list[int] = []
    for name, kind, members in bundle.columns:
        if name not in places:
            raise HeadRefusedError(f"reads the column {name}, which the domain lacks")
        field = layout.columns[places[name]]
        # Members appended since training have codes that the head has never seen: it treats them as
        # none.
        if field.type != kind or field.members[: len(members)] != members:
            raise HeadRefusedError(f"reads the column {name} as another {kind}")
        columns.append(places[name])
    return LoadedHead(
        head=bundle.head,
        tier=bundle.tier,
        scorers=bundle.scorers,
        columns=np.array(columns, np.intp),
        table=np.concatenate([bundle.table, np.zeros_like(bundle.table[:1], shape=(1, 2))]),
        factors=bundle.factors,
        bundle=bundle,
    )


def sample_rows(partition: Partition) -> Rows:
    """Up to 256 living rows, spread over the domain."""
    alive = np.flatnonzero(partition.view.alive)
    step = max(1, -(-len(alive) // SAMPLE_ROWS))
    return alive[::step]


def own_queries(head: LoadedHead, partition: Partition) -> Floats:
    """Mapped queries [n, dim] of a sample of people: what the head will ask of an index."""
    view, rows = partition.view, sample_rows(partition)
    return np.stack([head.map_query(view, int(row)) for row in rows])


def factor_queries(factors: Factors, partition: Partition) -> Floats:
    """Queries [n, k] from the histories of a sample of seekers, or of one without any."""
    numbers = partition.view.numbers[sample_rows(partition)].tolist()
    histories = [partition.seen.history(number) for number in numbers]
    queries = [factors.query(history) for history in histories if len(history)]
    return np.stack(queries or [factors.newcomer])

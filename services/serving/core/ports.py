"""What serving's core needs from outside."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from services.serving.core.candidates import Floats, Mask, Rows, View
from services.serving.core.factors import Factors
from services.serving.core.facts import Facts


class Scorers(Protocol):
    """The parts of a head. Their methods may be called from several threads at once.

    Shapes: n people, c columns of the head, d dim, k numbers of a person's state; seekers are one
    for all [k] or one each [n, k].
    """

    def map_query(self, columns_c: Floats, vector_d: Floats) -> Floats:
        """Maps one seeker into the candidates' space: a unit vector [d]."""
        ...

    def describe(self, columns_nc: Floats, counts_n4: Floats, table_n2: Floats) -> Floats:
        """Turns people into states [n, k]; columns have NaN for no value."""
        ...

    def score_light(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        """Returns n logits."""
        ...

    def score_cross(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        """Returns the n probabilities that the seeker's outcome with each would be positive."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadBundle:
    """A head as it comes from the artifact store: checked, but not yet in use."""

    tenant: str
    domain: str
    head: str
    tier: str
    encoder: str
    dim: int
    columns: tuple[tuple[str, str, tuple[str, ...]], ...]
    """Name, type and members of each column that the head reads."""
    table: Floats
    """[users, 2] What the head has learned of single people, by number."""
    scorers: Scorers
    factors: Factors | None = None
    """Vectors of its own, where it learned such."""
    run_id: str = ""
    """Run that made it."""


class Index(Protocol):
    """An approximate index over the first rows of a domain's views."""

    rows: int
    """Rows 0 to here are in the index."""
    generation: int
    """Of the view that it was built from."""

    def search(self, query: Floats, mask: Mask, top_k: int, probes_count: int) -> Rows:
        """Returns up to `top_k` rows inside the mask [rows] that lie nearest to the query."""
        ...

    def calibrate(self, queries: Floats) -> tuple[int, float]:
        """Returns the fewest probes that reach the wanted recall on queries [n, dim], and it."""
        ...


class IndexBuilder(Protocol):
    """Builds indexes."""

    def build(self, view: View) -> Index:
        """Builds an index over all rows of a view. Takes seconds for a million rows."""
        ...


SHADOW = "shadow"
CANARY = "canary"


@dataclass(frozen=True, slots=True)
class DesiredChallenger:
    """A head that the scheduler wants to be on trial beside the one in use."""

    rollout_id: str
    step: str
    """SHADOW: ranks unseen; CANARY: answers a share of the seekers."""
    share: float
    """Of first pages that are ranked again, or of seekers."""
    head: str
    tier: str
    manifest_digest: str


@dataclass(frozen=True, slots=True)
class DesiredHead:
    """What the scheduler wants to be in use in a domain."""

    tenant: str
    domain: str
    head: str
    """Empty for the encoder alone, which has no tier and digest to name."""
    tier: str
    manifest_digest: str
    exploration: float = 0.0
    """Share of the matches to be explored."""
    challenger: DesiredChallenger | None = None


class Promotions(Protocol):
    """The scheduler's word on what shall be in use."""

    async def list(self) -> Sequence[DesiredHead]:
        """Returns every domain with a head, a challenger or an exploration."""
        ...


class HeadName(NamedTuple):
    """A head by its owner and version."""

    tenant: str
    head: str


class Gate(Protocol):
    """The scheduler's word on which heads may rank at all."""

    async def unearned(self, heads: Sequence[HeadName]) -> Sequence[HeadName]:
        """Returns those heads that never passed the gate, or that nobody knows."""
        ...


class BundleSource(Protocol):
    """Where heads come from."""

    async def load(self, desired: DesiredHead) -> HeadBundle:
        """Fetches, checks and opens a head.

        Raises:
            HeadRefusedError: something about it is not as it should be.
        """
        ...


@dataclass(frozen=True, slots=True)
class DesiredModel:
    """What a model's name stands for."""

    owner: str
    """Whose head it is: a tenant, or who owns shared domains."""
    head: str
    manifest_digest: str
    """Empty for the encoder alone."""


class ModelCatalog(Protocol):
    """The scheduler's word on models."""

    async def get(self, tenant: str, name: str) -> DesiredModel:
        """Returns what a name stands for.

        Raises:
            ModelNotFoundError: the tenant has nothing of this name.
            ModelUnavailableError: the scheduler cannot be asked.
        """
        ...


class TextMap(Protocol):
    """The map of a model."""

    def map_texts(self, vectors_nd: Floats) -> Floats:
        """Maps vectors of texts [n, d] to unit vectors [n, d]. May be called in threads at once."""
        ...


class MapSource(Protocol):
    """Where models come from."""

    async def load_map(self, desired: DesiredModel, space: tuple[str, int]) -> TextMap:
        """Fetches, checks and opens the map of a head or of a model.

        `space` is the encoder's name and the length of its vectors.

        Raises:
            FieldInvalidError: it reads vectors that texts do not have here.
            HeadRefusedError: something about it is not as it should be.
        """
        ...


class Judge(Protocol):
    """A language model that scores candidates."""

    model: str

    async def score(self, seeker: Facts, candidates: Sequence[Facts]) -> Sequence[object]:
        """Returns what should be a score from 0 to 1 per candidate, unchecked.

        Raises:
            JudgeFailedError: it gave none in time.
        """
        ...


class Clock(Protocol):
    """Time."""

    def now(self) -> datetime.datetime:
        """Now, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never step back."""
        ...


class Encoder(Protocol):
    """Turns texts into vectors."""

    name: str
    dim: int

    async def encode_counted(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.float16], list[int]]:
        """Returns unit vectors [texts, dim] and how many tokens were read of each text."""
        ...

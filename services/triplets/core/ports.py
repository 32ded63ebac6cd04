"""What the triplet store's core needs from outside."""

import datetime
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from services.triplets.core.context import Context
from services.triplets.core.file_dataset import FileArrays
from services.triplets.core.label import Label
from services.triplets.core.outcome import Outcome, Pair, Word
from services.triplets.core.pages import NO_PAGES, Pages
from services.triplets.core.profile import Profile, StoredProfile, Vector
from services.triplets.core.schema import Schema
from services.triplets.core.tally import Tally
from services.triplets.core.triplet import Triplets


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainCounts:
    """A domain in numbers."""

    tenant: str
    domain: str
    revision: int
    triplets_count: int
    positives_count: int
    trained_triplets_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeCounts:
    """A domain's standing outcomes in numbers."""

    outcomes_count: int
    positives_count: int
    seekers_count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedPart:
    """A tenant's domain that is shared and has triplets."""

    counts: DomainCounts
    encoder: str
    dim: int


class DomainUnit(Protocol):
    """One domain, locked: what is done through a unit commits together, or not at all.

    Units of one domain run one after another, so revisions commit in their order and a reader that
    has seen revision r has seen everything up to r.
    """

    schema: Schema
    labels: Mapping[str, Label]
    """The tenant's own labels, by name."""
    shared: bool
    """Whether the tenant shares the domain."""
    counts: DomainCounts
    """As of the start of the unit."""
    revision: int
    """What the domain's will be once the unit has changed something."""

    async def find_numbers(self, user_ids: Sequence[str]) -> Mapping[str, int]:
        """Returns the numbers of those users that exist."""
        ...

    async def standing_words(self, pairs: Sequence[Pair]) -> Mapping[Pair, Word]:
        """Returns the word that stands for each of the pairs that have one."""
        ...

    async def tallies(self, numbers: Sequence[int]) -> Mapping[int, Tally]:
        """Returns the tallies of existing users."""
        ...

    async def append_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Records outcomes; they are never changed."""
        ...

    async def save_tallies(
        self, tallies: Mapping[int, Tally], triplets_added: int, positives_added: int
    ) -> None:
        """Replaces tallies and moves the domain's counts of triplets and positive outcomes."""
        ...

    async def save_profile(self, profile: Profile, columns: Sequence[float]) -> datetime.datetime:
        """Creates or replaces a user, who keeps their number; returns the time of the change.

        Contexts that were appended go.
        """
        ...

    async def save_profiles(
        self, profiles: Sequence[tuple[Profile, Sequence[float]]]
    ) -> datetime.datetime:
        """Does the same for several users, each of whom comes once."""
        ...

    async def read_revision(self, user_id: str) -> int | None:
        """Returns the revision at which anything of a user last changed."""
        ...

    async def save_contexts(
        self,
        user_id: str,
        *,
        added: Sequence[Context],
        dropped: Sequence[str],
        vector: Vector | None,
        encoder: str,
    ) -> None:
        """Adds contexts to an existing user and drops others by their ids.

        The user's revision moves. A vector that is given replaces theirs.
        """
        ...

    async def save_values(self, profile: Profile, columns: Sequence[float]) -> None:
        """Replaces the values of an existing user and where they come from, and nothing else."""
        ...

    async def words_about(self, number: int) -> Mapping[Pair, Word]:
        """Returns the standing words that a user gave or received."""
        ...

    async def erase_user(self, number: int, id_hash: bytes) -> None:
        """Deletes a user, their contexts and tally, and the outcomes they gave or received.

        Their number stays taken, and by the hash of their id it stays known which snapshots held
        them; tallies of others are the caller's to save.
        """
        ...

    async def record_snapshot(self, digest: str, users_count: int, since: int) -> bool:
        """Remembers a snapshot of the first `users_count` numbers.

        False if someone was erased after revision `since`: the snapshot is outdated from the start.
        """
        ...

    async def snapshots_with(self, number: int) -> Sequence[str]:
        """Returns the digests of the last 1,000 snapshots that hold a number, newest first."""
        ...

    async def save_schema(self, schema: Schema) -> None:
        """Replaces the schema."""
        ...

    async def save_labels(self, labels: Mapping[str, Label]) -> None:
        """Replaces the tenant's own labels. Nobody else reads them: the revision stays."""
        ...

    async def save_shared(self, *, shared: bool) -> None:
        """Shares the domain, or withdraws it: then nothing that others share counts as trained."""
        ...

    async def save_trained_count(self, trained_triplets_count: int) -> None:
        """Replaces the number of triplets that the last successful run saw."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileBatch:
    """Columns of n profiles; see WatchProfilesResponse.Profiles."""

    user_ids: list[str]
    numbers: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float16]
    columns: npt.NDArray[np.float64]
    strings: Mapping[str, list[str]]
    lists: Mapping[str, list[list[str]]]
    points: Mapping[str, npt.NDArray[np.float64]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TallyBatch:
    """Columns of n tallies; see WatchProfilesResponse.Tallies."""

    numbers: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class PairBatch:
    """Columns of n pairs; see WatchProfilesResponse.Pairs."""

    numbers: npt.NDArray[np.int32]
    standing: npt.NDArray[np.uint8]
    times: npt.NDArray[np.int64]


Numbers = npt.NDArray[np.int32]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One step of a domain's history."""

    schema: Schema
    revision: int
    """Where to resume from once this step is applied."""
    removals: Numbers | None = None
    """Numbers of people who were erased."""
    profiles: ProfileBatch | None = None
    tallies: TallyBatch | None = None
    pairs: PairBatch | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainArrays:
    """A domain as of a revision: users by number, standing outcomes by (seeker, candidate).

    Pages are those shown by now; what came of them is as of the revision.
    """

    schema: Schema
    read_revision: int = 0
    """The domain's, when it was read: people are as of then."""
    user_ids: list[str]
    """Empty for a number whose user was erased: no vector, no values, no outcomes."""
    vectors: npt.NDArray[np.float16]
    columns: npt.NDArray[np.float32]
    seekers: npt.NDArray[np.int32]
    candidates: npt.NDArray[np.int32]
    levels: npt.NDArray[np.int8]
    weights: npt.NDArray[np.float32]
    times: npt.NDArray[np.int64]
    """Microseconds since 1970."""
    pages: Pages = NO_PAGES
    """As logged; see settle_pages."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UserSnapshot:
    """A snapshot that was taken while a person was there."""

    domain: str
    snapshot_id: int
    """Grows from snapshot to snapshot of a domain."""
    digest: str
    erased: bool
    """Whether the person has been erased since."""


class TripletStore(Protocol):
    """Everything that the service keeps."""

    async def create_domain(self, tenant: str, schema: Schema) -> bool:
        """Creates a domain; False if it exists already."""
        ...

    async def count_domains(self, tenant: str) -> int:
        """Returns how many domains a tenant has."""
        ...

    def open_domain(self, tenant: str, domain: str) -> AbstractAsyncContextManager[DomainUnit]:
        """Locks a domain for changes.

        Raises:
            DomainNotFoundError: on entering, if there is no such domain.
        """
        ...

    async def read_schema(self, tenant: str, domain: str) -> Schema | None:
        """Returns the schema of a domain."""
        ...

    async def read_labels(self, tenant: str, domain: str) -> Mapping[str, Label] | None:
        """Returns the tenant's own labels of a domain, by name."""
        ...

    async def read_profile(self, tenant: str, domain: str, user_id: str) -> StoredProfile | None:
        """Returns a user."""
        ...

    async def read_profiles(self, tenant: str, user_id: str) -> list[StoredProfile]:
        """Returns a user in each of the first 100 domains, by name, that know them."""
        ...

    async def read_contexts(self, tenant: str, domain: str, user_id: str) -> list[Context]:
        """Returns what was appended to a user, newest first; none for one who is not there."""
        ...

    async def knows_user(self, tenant: str, domain: str, user_id: str, id_hash: bytes) -> bool:
        """Says whether there is or was a user, in a domain or, for an empty one, in any."""
        ...

    async def list_user_snapshots(
        self,
        tenant: str,
        domain: str,
        user_id: str,
        id_hash: bytes,
        *,
        after: tuple[str, int],
        limit: int,
    ) -> list[UserSnapshot]:
        """Returns the snapshots with a user, of one domain or, for an empty one, of all.

        By domain, newest first, from the first that follows `after` (a domain and a snapshot id);
        ("", 0) means the first. Those who were erased are found by the hash of their id.
        """
        ...

    async def list_outdated_snapshots(self) -> list[str]:
        """Returns the oldest 1,000 snapshots that hold somebody erased and were not dropped."""
        ...

    async def drop_snapshot(self, digest: str) -> None:
        """Notes that a snapshot's file is gone; who was in it stays known."""
        ...

    async def read_counts(self, tenant: str, domain: str) -> DomainCounts | None:
        """Returns a domain in numbers."""
        ...

    async def count_outcomes(self, tenant: str, domain: str) -> OutcomeCounts | None:
        """Counts a domain's standing outcomes, positive ones of them, and who gave any."""
        ...

    async def list_counts(self, after: tuple[str, str], limit: int) -> list[DomainCounts]:
        """Returns domains with triplets or positive outcomes by (tenant, domain), above `after`."""
        ...

    async def read_shared(self, tenant: str, domain: str) -> bool | None:
        """Says whether a domain is shared; None if there is no such domain."""
        ...

    async def list_shared(self, domain: str) -> list[SharedPart]:
        """Returns domains of a name, an empty one means all, that are shared and have triplets."""
        ...

    async def read_shared_trained(self) -> Mapping[str, int]:
        """Returns how many triplets the last successful run of shared domains saw, by domain."""
        ...

    async def save_shared_trained(self, domain: str, trained_triplets_count: int) -> None:
        """Replaces the number of triplets that the last successful run of a shared domain saw."""
        ...

    async def read_revisions(self) -> Mapping[tuple[str, str], int]:
        """Returns the revision of every domain."""
        ...

    def read_changes(self, tenant: str, domain: str, since: int) -> AsyncIterator[Change]:
        """Reads everything changed after revision `since`, in batches from one consistent moment.

        Only the last batch carries the new revision: whoever stops before it starts again.
        """
        ...

    async def read_arrays(self, tenant: str, domain: str, revision: int) -> DomainArrays:
        """Reads a whole domain; outcomes recorded after the revision stay out.

        Raises:
            DomainNotFoundError: there is no such domain.
        """
        ...

    async def wait_for_change(self, seconds: float) -> None:
        """Returns when something may have changed, or after so many seconds."""
        ...


class Encoder(Protocol):
    """Turns texts into vectors."""

    name: str
    dim: int

    async def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float16]:
        """Returns unit vectors [texts, dim].

        Raises:
            EncoderUnavailableError: it cannot be reached.
        """
        ...


class CountingEncoder(Encoder, Protocol):
    """An encoder that says what it has read."""

    async def encode_counted(
        self, texts: Sequence[str]
    ) -> tuple[npt.NDArray[np.float16], list[int]]:
        """Returns unit vectors [texts, dim] and how many tokens were read of each text.

        Raises:
            EncoderUnavailableError: it cannot be reached.
        """
        ...


class FileGoneError(Exception):
    """A file is not where it should be, or is not what it should be."""


class SnapshotWriter(Protocol):
    """Where snapshots go."""

    async def write(self, arrays: DomainArrays, triplets: Triplets) -> str:
        """Stores a snapshot and returns its digest: SHA-256 in hexadecimal."""
        ...

    async def erase(self, digest: str) -> None:
        """Deletes a snapshot, if it is there."""
        ...


class FileShelf(SnapshotWriter, Protocol):
    """Where training files come from, and where snapshots of them go."""

    def stream_file(self, digest: str) -> AsyncIterator[bytes]:
        """Yields a training file's bytes, chunk by chunk.

        Raises:
            FileGoneError: it cannot be read; some of it may have been yielded.
        """
        ...

    async def write_files(self, arrays: FileArrays) -> str:
        """Stores a snapshot of files and returns its digest."""
        ...

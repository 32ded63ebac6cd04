"""The triplet store in dictionaries, for tests and for a mesh in one process."""

import asyncio
import dataclasses
import datetime
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.chassis.copies import copy_changeable
from services.chassis.replies import MemoryReplies
from services.triplets.core.change_bell import ChangeBell
from services.triplets.core.context import Context
from services.triplets.core.errors import DomainNotFoundError
from services.triplets.core.filter_columns import list_columns, point_columns, string_columns
from services.triplets.core.label import Label
from services.triplets.core.outcome import Outcome, Pair, Word, micros, standing_of
from services.triplets.core.ports import (
    Change,
    DomainArrays,
    DomainCounts,
    DomainUnit,
    OutcomeCounts,
    PairBatch,
    ProfileBatch,
    SharedPart,
    TallyBatch,
    UserSnapshot,
)
from services.triplets.core.profile import Profile, StoredProfile, Vector
from services.triplets.core.schema import Schema
from services.triplets.core.tally import Tally

BATCH_ROWS_MAX = 1_000
SNAPSHOTS_MAX = 1_000


@dataclass
class _User:
    number: int
    revision: int
    profile: Profile
    columns: list[float]
    update_time: datetime.datetime
    contexts: list[Context] = field(default_factory=list)
    """In the order of their arrival."""

    def stored(self, schema: Schema) -> StoredProfile:
        return StoredProfile(
            profile=self.profile,
            schema=schema,
            update_time=self.update_time,
            revision=self.revision,
        )


@dataclass
class _Domain:
    schema: Schema
    labels: Mapping[str, Label] = field(default_factory=dict)
    shared: bool = False
    revision: int = 0
    schema_revision: int = 0
    triplets_count: int = 0
    positives_count: int = 0
    trained_triplets_count: int = 0
    users_count: int = 0
    """Numbers given out."""
    users: dict[str, _User] = field(default_factory=dict)
    erased: dict[int, int] = field(default_factory=dict)
    """Revisions by number."""
    erased_ids: list[tuple[bytes, int, int]] = field(default_factory=list)
    """Hash of an id, number, and how many snapshots there were."""
    snapshots: list[tuple[str, int]] = field(default_factory=list)
    outdated: set[str] = field(default_factory=set)
    tallies: dict[int, tuple[int, Tally]] = field(default_factory=dict)
    outcomes: list[tuple[int, Outcome]] = field(default_factory=list)

    def counts(self, tenant: str) -> DomainCounts:
        return DomainCounts(
            tenant=tenant,
            domain=self.schema.domain,
            revision=self.revision,
            triplets_count=self.triplets_count,
            positives_count=self.positives_count,
            trained_triplets_count=self.trained_triplets_count,
        )

    def holding(self, user_id: str, id_hash: bytes) -> list[tuple[int, int, bool]]:
        """Numbers of a user, up to which snapshot they count, and whether they are erased."""
        gone = [
            (number, last, True) for hashed, number, last in self.erased_ids if hashed == id_hash
        ]
        user = self.users.get(user_id)
        return gone if user is None else [*gone, (user.number, len(self.snapshots), False)]

    def standing(self, revision: int) -> dict[Pair, Word]:
        words: dict[Pair, Word] = {}
        for recorded, outcome in self.outcomes:
            if recorded <= revision:
                words[outcome.pair] = max(words.get(outcome.pair, outcome.word), outcome.word)
        return words


class MemoryTripletStore:
    """The triplet store of a test."""

    def __init__(self) -> None:
        self._domains: dict[tuple[str, str], _Domain] = {}
        self._shared_trained: dict[str, int] = {}
        self._replies = MemoryReplies()
        self._dropped: set[str] = set()
        self._lock = asyncio.Lock()
        self._bell = ChangeBell()

    async def create_domain(self, tenant: str, schema: Schema) -> bool:
        """Creates a domain; False if it exists already."""
        if (tenant, schema.domain) in self._domains:
            return False
        self._domains[tenant, schema.domain] = _Domain(schema)
        await self._bell.ring()
        return True

    async def count_domains(self, tenant: str) -> int:
        """Returns how many domains a tenant has."""
        return len(self._asked(tenant, ""))

    @asynccontextmanager
    async def _open_domain(self, tenant: str, domain: str) -> AsyncIterator[DomainUnit]:
        async with self._lock:
            if (tenant, domain) not in self._domains:
                raise DomainNotFoundError(domain)
            # A unit works on copies, so that a failure leaves nothing half done.
            replies = copy_changeable(self._replies)
            unit = MemoryDomainUnit(tenant, copy_changeable(self._domains[tenant, domain]), replies)
            yield unit
            if self._domains[tenant, domain].shared and not unit.shared:
                self._shared_trained.pop(domain, None)
            self._domains[tenant, domain] = unit.state
            self._replies = replies
        await self._bell.ring()

    def open_domain(self, tenant: str, domain: str) -> AbstractAsyncContextManager[DomainUnit]:
        """Locks a domain for changes."""
        return self._open_domain(tenant, domain)

    async def wait_for_change(self, seconds: float) -> None:
        """Returns when something has changed, or after so many seconds."""
        await self._bell.wait(seconds)

    async def read_schema(self, tenant: str, domain: str) -> Schema | None:
        """Returns the schema of a domain."""
        state = self._domains.get((tenant, domain))
        return None if state is None else state.schema

    async def read_labels(self, tenant: str, domain: str) -> Mapping[str, Label] | None:
        """Returns the tenant's own labels of a domain, by name."""
        state = self._domains.get((tenant, domain))
        return None if state is None else state.labels

    async def read_profile(self, tenant: str, domain: str, user_id: str) -> StoredProfile | None:
        """Returns a user."""
        state = self._domains.get((tenant, domain))
        user = None if state is None else state.users.get(user_id)
        if state is None or user is None:
            return None
        return user.stored(state.schema)

    async def read_profiles(self, tenant: str, user_id: str) -> list[StoredProfile]:
        """Returns a user in each of the first 100 domains that know them."""
        states = [self._domains[key] for key in sorted(self._domains) if key[0] == tenant]
        return [s.users[user_id].stored(s.schema) for s in states if user_id in s.users][:100]

    async def read_contexts(self, tenant: str, domain: str, user_id: str) -> list[Context]:
        """Returns what was appended to a user, newest first."""
        state = self._domains.get((tenant, domain))
        user = None if state is None else state.users.get(user_id)
        arrived = [] if user is None else user.contexts
        return sorted(arrived, key=lambda c: c.occurred_at)[::-1]  # the last to arrive first

    async def knows_user(self, tenant: str, domain: str, user_id: str, id_hash: bytes) -> bool:
        """Says whether there is or was a user."""
        return any(state.holding(user_id, id_hash) for _, state in self._asked(tenant, domain))

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
        """Returns the snapshots with a user, by domain, newest first."""
        found = [
            UserSnapshot(domain=name, snapshot_id=snapshot_id, digest=digest, erased=erased)
            for name, state in self._asked(tenant, domain)
            for number, last, erased in state.holding(user_id, id_hash)
            for snapshot_id, (digest, users_count) in enumerate(state.snapshots[:last], 1)
            if users_count > number
            and (name > after[0] or (name == after[0] and snapshot_id < after[1]))
        ]
        return sorted(found, key=lambda one: (one.domain, -one.snapshot_id))[:limit]

    def _asked(self, tenant: str, domain: str) -> list[tuple[str, _Domain]]:
        """One domain, or all of a tenant."""
        keys = [key for key in self._domains if key[0] == tenant and domain in ("", key[1])]
        return [(key[1], self._domains[key]) for key in keys]

    async def list_outdated_snapshots(self) -> list[str]:
        """Returns snapshots that hold somebody erased and were not dropped."""
        outdated = set().union(*(state.outdated for state in self._domains.values()))
        return sorted(outdated - self._dropped)

    async def drop_snapshot(self, digest: str) -> None:
        """Notes that a snapshot's file is gone."""
        self._dropped.add(digest)

    async def read_counts(self, tenant: str, domain: str) -> DomainCounts | None:
        """Returns a domain in numbers."""
        state = self._domains.get((tenant, domain))
        return None if state is None else state.counts(tenant)

    async def count_outcomes(self, tenant: str, domain: str) -> OutcomeCounts | None:
        """Counts a domain's standing outcomes."""
        state = self._domains.get((tenant, domain))
        if state is None:
            return None
        effects = [tally.effects for _, tally in state.tallies.values()]
        return OutcomeCounts(
            outcomes_count=sum(given for given, *_ in effects),
            positives_count=sum(positive for _, positive, *_ in effects),
            seekers_count=sum(given > 0 for given, *_ in effects),
        )

    async def list_counts(self, after: tuple[str, str], limit: int) -> list[DomainCounts]:
        """Returns domains with triplets or positive outcomes in order."""
        keys = sorted(key for key in self._domains if key > after)
        found = [self._domains[key].counts(key[0]) for key in keys]
        return [c for c in found if c.triplets_count or c.positives_count][:limit]

    async def read_shared(self, tenant: str, domain: str) -> bool | None:
        """Says whether a domain is shared."""
        state = self._domains.get((tenant, domain))
        return None if state is None else state.shared

    async def list_shared(self, domain: str) -> list[SharedPart]:
        """Returns domains that are shared and have triplets."""
        return [
            SharedPart(counts=s.counts(tenant), encoder=s.schema.encoder, dim=s.schema.dim)
            for (tenant, name), s in sorted(self._domains.items())
            if s.shared and s.triplets_count and domain in ("", name)
        ]

    async def read_shared_trained(self) -> Mapping[str, int]:
        """Returns how many triplets the last successful run of shared domains saw."""
        return dict(self._shared_trained)

    async def save_shared_trained(self, domain: str, trained_triplets_count: int) -> None:
        """Replaces the number of triplets that the last successful run of a shared domain saw."""
        self._shared_trained[domain] = trained_triplets_count

    async def read_revisions(self) -> Mapping[tuple[str, str], int]:
        """Returns the revision of every domain."""
        return {key: state.revision for key, state in self._domains.items()}

    async def read_changes(self, tenant: str, domain: str, since: int) -> AsyncIterator[Change]:
        """Reads everything changed after a revision."""
        state = self._domains.get((tenant, domain))
        if state is None:
            return
        if state.schema_revision > since:
            since = -1
        erased = sorted((r, number) for number, r in state.erased.items() if r > since)
        for start in range(0, len(erased), BATCH_ROWS_MAX):
            gone = [number for _, number in erased[start : start + BATCH_ROWS_MAX]]
            removals = np.array(gone, np.int32)
            yield Change(schema=state.schema, revision=since, removals=removals)
        users = [user for user in state.users.values() if user.revision > since]
        users.sort(key=lambda user: (user.revision, user.number))
        for start in range(0, len(users), BATCH_ROWS_MAX):
            batch = _profile_batch(state.schema, users[start : start + BATCH_ROWS_MAX])
            yield Change(schema=state.schema, revision=since, profiles=batch)
        later = sorted((r, n, tally) for n, (r, tally) in state.tallies.items() if r > since)
        changed = [(n, tally) for _, n, tally in later]
        for start in range(0, len(changed), BATCH_ROWS_MAX):
            rows = changed[start : start + BATCH_ROWS_MAX]
            numbers = np.array([number for number, _ in rows], np.int32)
            effects = np.array([tally.effects for _, tally in rows], np.int32)
            tallies = TallyBatch(numbers=numbers, counts=effects)
            yield Change(schema=state.schema, revision=since, tallies=tallies)
        pairs = sorted({outcome.pair for r, outcome in state.outcomes if r > since})
        words = state.standing(state.revision)
        for start in range(0, len(pairs), BATCH_ROWS_MAX):
            some = pairs[start : start + BATCH_ROWS_MAX]
            stand = [standing_of(words[pair].level) for pair in some]
            times = [micros(words[pair].occurred_at) for pair in some]
            batch_pairs = PairBatch(
                numbers=np.array(some, np.int32),
                standing=np.array(stand, np.uint8),
                times=np.array(times, np.int64),
            )
            yield Change(schema=state.schema, revision=since, pairs=batch_pairs)
        yield Change(schema=state.schema, revision=state.revision)

    async def read_arrays(self, tenant: str, domain: str, revision: int) -> DomainArrays:
        """Reads a whole domain; outcomes recorded after the revision stay out."""
        state = self._domains.get((tenant, domain))
        if state is None:
            raise DomainNotFoundError(domain)
        batch = _profile_batch(state.schema, list(state.users.values()))
        user_ids = [""] * state.users_count
        for number, user_id in zip(batch.numbers.tolist(), batch.user_ids, strict=True):
            user_ids[number] = user_id
        vectors = np.zeros((state.users_count, state.schema.dim), np.float16)
        vectors[batch.numbers] = batch.vectors
        columns = np.full((state.users_count, len(state.schema.columns)), np.nan, np.float32)
        columns[batch.numbers] = batch.columns
        standing = state.standing(revision).items()
        words = sorted((p, w) for p, w in standing if w.counted_level is not None)
        pairs = np.array([pair for pair, _ in words], np.int32).reshape(-1, 2)
        times = [micros(w.occurred_at) for _, w in words]
        return DomainArrays(
            schema=state.schema,
            read_revision=state.revision,
            user_ids=user_ids,
            vectors=vectors,
            columns=columns,
            seekers=pairs[:, 0],
            candidates=pairs[:, 1],
            levels=np.array([word.level for _, word in words], np.int8),
            weights=np.array([word.weight for _, word in words], np.float32),
            times=np.array(times, np.int64),
        )


class MemoryDomainUnit(MemoryReplies):
    """A domain's copy, to be kept if the unit ends well."""

    def __init__(self, tenant: str, state: _Domain, replies: MemoryReplies) -> None:
        super().__init__()
        self._replies = replies._replies  # noqa: SLF001  # the store's own, as copied for this unit
        self.revision = state.revision + 1
        self.state = state
        self.schema = state.schema
        self.labels = state.labels
        self.shared = state.shared
        self.counts = state.counts(tenant)

    async def find_numbers(self, user_ids: Sequence[str]) -> Mapping[str, int]:
        """Returns the numbers of those users that exist."""
        users = self.state.users
        return {user_id: users[user_id].number for user_id in user_ids if user_id in users}

    async def standing_words(self, pairs: Sequence[Pair]) -> Mapping[Pair, Word]:
        """Returns the word that stands for each of the pairs that have one."""
        words = self.state.standing(self.state.revision)
        return {pair: words[pair] for pair in pairs if pair in words}

    async def tallies(self, numbers: Sequence[int]) -> Mapping[int, Tally]:
        """Returns the tallies of existing users."""
        return {number: self.state.tallies[number][1] for number in numbers}

    async def append_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Records outcomes."""
        self.state.revision = self.revision
        self.state.outcomes += [(self.revision, outcome) for outcome in outcomes]

    async def save_tallies(
        self, tallies: Mapping[int, Tally], triplets_added: int, positives_added: int
    ) -> None:
        """Replaces tallies and moves the domain's counts of triplets and positive outcomes."""
        self.state.revision = self.revision
        self.state.triplets_count += triplets_added
        self.state.positives_count += positives_added
        self.state.tallies |= {number: (self.revision, tally) for number, tally in tallies.items()}

    async def save_profile(self, profile: Profile, columns: Sequence[float]) -> datetime.datetime:
        """Creates or replaces a user, who keeps their number."""
        self.state.revision = self.revision
        now = datetime.datetime.now(datetime.UTC)
        known = self.state.users.get(profile.user_id)
        number = self.state.users_count if known is None else known.number
        if known is None:
            self.state.users_count += 1
            self.state.tallies[number] = (self.revision, Tally())
        self.state.users[profile.user_id] = _User(
            number, self.revision, profile, list(columns), now
        )
        return now

    async def save_profiles(
        self, profiles: Sequence[tuple[Profile, Sequence[float]]]
    ) -> datetime.datetime:
        """Creates or replaces users."""
        return [await self.save_profile(profile, columns) for profile, columns in profiles][-1]

    async def read_revision(self, user_id: str) -> int | None:
        """Returns the revision at which anything of a user last changed."""
        user = self.state.users.get(user_id)
        return None if user is None else user.revision

    async def save_contexts(
        self,
        user_id: str,
        *,
        added: Sequence[Context],
        dropped: Sequence[str],
        vector: Vector | None,
        encoder: str,
    ) -> None:
        """Adds contexts to an existing user and drops others."""
        self.state.revision = self.revision
        user = self.state.users[user_id]
        user.revision = self.revision
        user.contexts = [c for c in user.contexts if c.context_id not in dropped] + [*added]
        if vector is not None:
            user.profile = dataclasses.replace(user.profile, vector=vector, encoder=encoder)
            user.update_time = datetime.datetime.now(datetime.UTC)

    async def save_values(self, profile: Profile, columns: Sequence[float]) -> None:
        """Replaces the values of an existing user and where they come from."""
        self.state.revision = self.revision
        user = self.state.users[profile.user_id]
        user.revision = self.revision
        user.profile = dataclasses.replace(
            user.profile, values=profile.values, provenance=profile.provenance
        )
        user.columns = list(columns)
        user.update_time = datetime.datetime.now(datetime.UTC)

    async def words_about(self, number: int) -> Mapping[Pair, Word]:
        """Returns the standing words that a user gave or received."""
        words = self.state.standing(self.revision)
        return {pair: word for pair, word in words.items() if number in pair}

    async def erase_user(self, number: int, id_hash: bytes) -> None:
        """Deletes a user and everything about them, but for the hash of their id."""
        self.state.revision = self.revision
        users = self.state.users.items()
        self.state.users = {name: user for name, user in users if user.number != number}
        del self.state.tallies[number]
        self.state.outcomes = [(r, o) for r, o in self.state.outcomes if number not in o.pair]
        self.state.erased[number] = self.revision
        self.state.erased_ids.append((id_hash, number, len(self.state.snapshots)))
        self.state.outdated |= {digest for digest, count in self.state.snapshots if count > number}

    async def record_snapshot(self, digest: str, users_count: int, since: int) -> bool:
        """Remembers a snapshot; False if someone was erased since."""
        if digest not in dict(self.state.snapshots):
            self.state.snapshots.append((digest, users_count))
        late = any(revision > since for revision in self.state.erased.values())
        self.state.outdated |= {digest} if late else set()
        return not late

    async def snapshots_with(self, number: int) -> Sequence[str]:
        """Returns the digests of the last snapshots that hold a number, newest first."""
        holding = [digest for digest, users_count in self.state.snapshots if users_count > number]
        return holding[::-1][:SNAPSHOTS_MAX]

    async def save_schema(self, schema: Schema) -> None:
        """Replaces the schema."""
        self.state.revision = self.state.schema_revision = self.revision
        self.state.schema = schema

    async def save_labels(self, labels: Mapping[str, Label]) -> None:
        """Replaces the tenant's own labels."""
        self.labels = self.state.labels = labels

    async def save_shared(self, *, shared: bool) -> None:
        """Shares the domain, or withdraws it."""
        self.shared = self.state.shared = shared

    async def save_trained_count(self, trained_triplets_count: int) -> None:
        """Replaces the number of triplets that the last successful run saw."""
        self.state.trained_triplets_count = trained_triplets_count


def _profile_batch(schema: Schema, users: list[_User]) -> ProfileBatch:
    width = len(schema.columns)
    columns = np.full((len(users), width), np.nan)
    vectors: npt.NDArray[np.float16] = np.zeros((len(users), schema.dim), np.float16)
    for row, user in enumerate(users):
        columns[row, : len(user.columns)] = user.columns
        if user.profile.vector is not None:
            vectors[row] = user.profile.vector
    values = [user.profile.values for user in users]
    return ProfileBatch(
        user_ids=[user.profile.user_id for user in users],
        numbers=np.array([user.number for user in users], np.int32),
        vectors=vectors,
        columns=columns,
        strings=string_columns(schema, values),
        lists=list_columns(schema, values),
        points=point_columns(schema, values),
    )

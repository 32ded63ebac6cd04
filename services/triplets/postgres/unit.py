"""One domain in one transaction."""

import datetime
from collections.abc import Mapping, Sequence

import asyncpg

from services.chassis.database import Connection
from services.chassis.replies import PostgresReplies
from services.triplets.core.context import Context
from services.triplets.core.label import Label
from services.triplets.core.outcome import Outcome, Pair, Word
from services.triplets.core.ports import DomainCounts
from services.triplets.core.profile import Profile, Vector
from services.triplets.core.schema import Schema
from services.triplets.core.tally import Tally
from services.triplets.postgres.queries import SQL
from services.triplets.postgres.rows import (
    labels_json,
    read_labels,
    read_schema,
    schema_json,
    user_row,
)


class PostgresDomainUnit(PostgresReplies):
    """One locked domain in one transaction."""

    def __init__(
        self, connection: Connection, tenant: str, domain: str, row: asyncpg.Record
    ) -> None:
        super().__init__(connection)
        self._domain_id = row["domain_id"]
        self._domain = domain
        self.revision = row["revision"] + 1
        self._users_count = row["users_count"]
        self._triplets_added = 0
        self._positives_added = 0
        self._dirty = False
        self.schema = read_schema(domain, row["schema"])
        self.labels: Mapping[str, Label] = read_labels(row["labels"])
        self.shared: bool = row["shared"]
        self.counts = DomainCounts(
            tenant=tenant,
            domain=domain,
            revision=row["revision"],
            triplets_count=row["triplets_count"],
            positives_count=row["positives_count"],
            trained_triplets_count=row["trained_triplets_count"],
        )

    async def find_numbers(self, user_ids: Sequence[str]) -> Mapping[str, int]:
        """Returns the numbers of those users that exist."""
        rows = await self._connection.fetch(SQL["find_numbers"], self._domain_id, user_ids)
        return {row["user_id"]: row["number"] for row in rows}

    async def standing_words(self, pairs: Sequence[Pair]) -> Mapping[Pair, Word]:
        """Returns the word that stands for each of the pairs that have one."""
        seekers = [pair.seeker for pair in pairs]
        candidates = [pair.candidate for pair in pairs]
        rows = await self._connection.fetch(
            SQL["standing_words"], self._domain_id, seekers, candidates
        )
        return _words(rows)

    async def tallies(self, numbers: Sequence[int]) -> Mapping[int, Tally]:
        """Returns the tallies of existing users."""
        rows = await self._connection.fetch(SQL["tallies"], self._domain_id, numbers)
        return {row["number"]: Tally(tuple(row["given"]), tuple(row["received"])) for row in rows}

    async def append_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Records outcomes."""
        self._dirty = True
        key = (self._domain_id, self.revision)
        rows = [(*o.pair, o.label, *o.word, o.match_id) for o in outcomes]
        await self._connection.execute(SQL["add_outcomes"], *key, *_columns(rows, 7))

    async def save_tallies(
        self, tallies: Mapping[int, Tally], triplets_added: int, positives_added: int
    ) -> None:
        """Replaces tallies and moves the domain's counts of triplets and positive outcomes."""
        self._dirty = True
        self._triplets_added += triplets_added
        self._positives_added += positives_added
        levels = zip(*((*t.given, *t.received) for t in tallies.values()), strict=True)
        if tallies:
            await self._connection.execute(
                SQL["save_tallies"], self._domain_id, self.revision, list(tallies), *levels
            )

    async def save_profile(self, profile: Profile, columns: Sequence[float]) -> datetime.datetime:
        """Creates or replaces a user, who keeps their number."""
        return await self.save_profiles([(profile, columns)])

    async def save_profiles(
        self, profiles: Sequence[tuple[Profile, Sequence[float]]]
    ) -> datetime.datetime:
        """Creates or replaces users, each of whom comes once."""
        self._dirty = True
        known = await self.find_numbers([profile.user_id for profile, _ in profiles])
        if known:
            numbers = list(known.values())
            await self._connection.execute(SQL["forget_contexts"], self._domain_id, numbers)
        rows = []
        for profile, columns in profiles:
            number = known.get(profile.user_id, self._users_count)
            self._users_count += number == self._users_count
            rows.append((number, *user_row(profile, columns)))
        update_time: datetime.datetime = await self._connection.fetchval(
            SQL["save_users"], self._domain_id, self.revision, *zip(*rows, strict=True)
        )
        return update_time

    async def read_revision(self, user_id: str) -> int | None:
        """Returns the revision at which anything of a user last changed."""
        revision: int | None = await self._connection.fetchval(
            SQL["read_revision"], self._domain_id, user_id
        )
        return revision

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
        self._dirty = True
        content = None if vector is None else vector.astype("<f2").tobytes()
        number = await self._connection.fetchval(
            SQL["touch_user"], self._domain_id, user_id, self.revision, content, encoder
        )
        key = (self._domain_id, number)
        await self._connection.execute(SQL["drop_contexts"], *key, dropped)
        rows = [(c.context_id, c.content, c.source, c.occurred_at) for c in added]
        await self._connection.execute(SQL["add_contexts"], *key, *_columns(rows, 4))

    async def save_values(self, profile: Profile, columns: Sequence[float]) -> None:
        """Replaces the values of an existing user and where they come from."""
        self._dirty = True
        _, _, fields, provenance, packed, _, _ = user_row(profile, columns)
        await self._connection.execute(
            SQL["save_values"],
            self._domain_id,
            profile.user_id,
            self.revision,
            fields,
            provenance,
            packed,
        )

    async def words_about(self, number: int) -> Mapping[Pair, Word]:
        """Returns the standing words that a user gave or received."""
        return _words(await self._connection.fetch(SQL["words_about"], self._domain_id, number))

    async def erase_user(self, number: int, id_hash: bytes) -> None:
        """Deletes a user and everything about them, but for the hash of their id."""
        self._dirty = True
        erasing = ("erase_given", "erase_received", "erase_tally", "erase_user")
        for query in (*erasing, "outdate_snapshots"):
            await self._connection.execute(SQL[query], self._domain_id, number)
        await self._connection.execute(
            SQL["mark_erased"], self._domain_id, number, self.revision, id_hash
        )

    async def record_snapshot(self, digest: str, users_count: int, since: int) -> bool:
        """Remembers a snapshot; False if someone was erased since."""
        late = await self._connection.fetchval(SQL["was_erased_since"], self._domain_id, since)
        key = (self._domain_id, digest)
        await self._connection.execute(SQL["save_snapshot"], *key, users_count, late)
        return not late

    async def snapshots_with(self, number: int) -> Sequence[str]:
        """Returns the digests of the last snapshots that hold a number, newest first."""
        rows = await self._connection.fetch(SQL["snapshots_with"], self._domain_id, number)
        return [row["digest"] for row in rows]

    async def save_schema(self, schema: Schema) -> None:
        """Replaces the schema."""
        self._dirty = True
        await self._connection.execute(
            SQL["save_schema"], self._domain_id, schema_json(schema), self.revision
        )

    async def save_labels(self, labels: Mapping[str, Label]) -> None:
        """Replaces the tenant's own labels."""
        self.labels = labels
        await self._connection.execute(SQL["save_labels"], self._domain_id, labels_json(labels))

    async def save_shared(self, *, shared: bool) -> None:
        """Shares the domain, or withdraws it."""
        self.shared = shared
        await self._connection.execute(SQL["save_shared"], self._domain_id, shared)
        if not shared:
            await self._connection.execute(SQL["forget_shared_trained"], self._domain)

    async def save_trained_count(self, trained_triplets_count: int) -> None:
        """Replaces the number of triplets that the last successful run saw."""
        await self._connection.execute(
            SQL["save_trained_count"], self._domain_id, trained_triplets_count
        )

    async def flush(self) -> None:
        """Moves the domain to its new revision, last thing before the commit."""
        if self._dirty:
            await self._connection.execute(
                SQL["commit_revision"],
                self._domain_id,
                self.revision,
                self._users_count,
                self._triplets_added,
                self._positives_added,
            )


def _columns(rows: Sequence[tuple[object, ...]], count: int) -> list[tuple[object, ...]]:
    """Rows of so many values, column by column."""
    return list(zip(*rows, strict=True)) or [()] * count


def _words(rows: list[asyncpg.Record]) -> dict[Pair, Word]:
    return {
        Pair(row["seeker"], row["candidate"]): Word(row["occurred_at"], row["level"], row["weight"])
        for row in rows
    }

"""Domains, people and outcomes in PostgreSQL."""

import asyncio
import dataclasses
import datetime
import io
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from weakref import WeakValueDictionary

import asyncpg
import numpy as np
import numpy.typing as npt

from services.chassis.database import Connection, Pool, load_queries, migrations_of
from services.chassis.replies import PostgresReplies
from services.triplets.core.errors import DomainNotFoundError
from services.triplets.core.label import Label
from services.triplets.core.outcome import RETRACTED_LEVEL, Outcome, Pair, Word
from services.triplets.core.ports import (
    Change,
    DomainArrays,
    DomainCounts,
    DomainUnit,
    PairBatch,
    ProfileBatch,
    TallyBatch,
)
from services.triplets.core.profile import Profile, StoredProfile
from services.triplets.core.schema import Field, Schema
from services.triplets.core.tally import Tally

SCHEMA = "triplets"
_HERE = Path(__file__).parent
MIGRATIONS = migrations_of(_HERE / "migrations", "replies")
_SQL = load_queries(_HERE / "queries.sql")

BATCH_ROWS_MAX = 1_000
"""Rows of one batch of changes: about 1.2 MB with 384-dimensional vectors, under gRPC's 4 MiB."""

_OUTCOME_COLUMNS = (
    *("domain_id", "revision", "seeker", "candidate", "label"),
    *("occurred_at", "level", "weight", "match_id"),
)

_COPY_HEADER_BYTES = 19
_COPY_TRAILER_BYTES = 2
_EPOCH_MICROS = 946_684_800_000_000  # PostgreSQL counts from 2000, we from 1970
_OUTCOME_ROW = np.dtype(
    [
        ("fields", ">i2"),
        *(
            part
            for name, kind in (
                ("seeker", ">i4"),
                ("candidate", ">i4"),
                ("level", ">i2"),
                ("weight", ">f8"),
                ("occurred_at", ">i8"),
            )
            for part in ((f"{name}_bytes", ">i4"), (name, kind))
        ),
    ]
)
"""A row of COPY BINARY: columns of fixed size without nulls, so a whole result is one array."""


class PostgresTripletStore:
    """The triplet store on a pool bound to its schema."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._changed = asyncio.Condition()
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def create_domain(self, tenant: str, schema: Schema) -> bool:
        """Creates a domain; False if it exists already."""
        values = (tenant, schema.domain, _schema_json(schema))
        created = bool(await self._pool.fetchval(_SQL["create_domain"], *values))
        if created:
            await self._tell()
        return created

    @asynccontextmanager
    async def _open_domain(self, tenant: str, domain: str) -> AsyncIterator[DomainUnit]:
        # Who waits for a domain waits here, not at its row with a connection in hand: a busy domain
        # must not keep the others from theirs.
        turn = self._turns.setdefault((tenant, domain), asyncio.Lock())
        async with turn, self._pool.acquire() as connection, connection.transaction():
            row = await connection.fetchrow(_SQL["lock_domain"], tenant, domain)
            if row is None:
                raise DomainNotFoundError(domain)
            unit = PostgresDomainUnit(connection, tenant, domain, row)
            yield unit
            await unit.flush()
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def open_domain(self, tenant: str, domain: str) -> AbstractAsyncContextManager[DomainUnit]:
        """Locks a domain for changes."""
        return self._open_domain(tenant, domain)

    async def wait_for_change(self, seconds: float) -> None:
        """Returns when this process has changed something, or after so many seconds."""
        async with self._changed:
            try:
                await asyncio.wait_for(self._changed.wait(), seconds)
            except TimeoutError:
                return

    async def read_schema(self, tenant: str, domain: str) -> Schema | None:
        """Returns the schema of a domain."""
        text = await self._pool.fetchval(_SQL["read_schema"], tenant, domain)
        return None if text is None else _read_schema(domain, text)

    async def read_labels(self, tenant: str, domain: str) -> Mapping[str, Label] | None:
        """Returns the tenant's own labels of a domain, by name."""
        text = await self._pool.fetchval(_SQL["read_labels"], tenant, domain)
        return None if text is None else _read_labels(text)

    async def read_profile(self, tenant: str, domain: str, user_id: str) -> StoredProfile | None:
        """Returns a user."""
        schema = await self.read_schema(tenant, domain)
        row = await self._pool.fetchrow(_SQL["read_user"], tenant, domain, user_id)
        if schema is None or row is None:
            return None
        vector = row["vector"]
        profile = Profile(
            user_id=row["user_id"],
            context=row["context"],
            values=json.loads(row["fields"], parse_int=float),  # jsonb forgets which they were
            vector=None if vector is None else np.frombuffer(vector, "<f2"),
            encoder=row["encoder"],
        )
        return StoredProfile(profile=profile, schema=schema, update_time=row["update_time"])

    async def read_counts(self, tenant: str, domain: str) -> DomainCounts | None:
        """Returns a domain in numbers."""
        row = await self._pool.fetchrow(_SQL["read_counts"], tenant, domain)
        return None if row is None else DomainCounts(**dict(row))

    async def list_counts(self, after: tuple[str, str], limit: int) -> list[DomainCounts]:
        """Returns domains with triplets in order."""
        rows = await self._pool.fetch(_SQL["list_counts"], *after, limit)
        return [DomainCounts(**dict(row)) for row in rows]

    async def read_revisions(self) -> Mapping[tuple[str, str], int]:
        """Returns the revision of every domain."""
        rows = await self._pool.fetch(_SQL["read_revisions"])
        return {(row["tenant"], row["domain"]): row["revision"] for row in rows}

    async def read_changes(self, tenant: str, domain: str, since: int) -> AsyncIterator[Change]:
        """Reads everything changed after a revision."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            head = await connection.fetchrow(_SQL["read_domain_head"], tenant, domain)
            if head is None:
                return
            schema = _read_schema(domain, head["schema"])
            if head["schema_revision"] > since:
                since = -1  # columns may have been added: everyone is sent anew
            key = (head["domain_id"], since)
            async for rows in _batches(connection, _SQL["changed_users"], key):
                yield Change(schema=schema, revision=since, profiles=_profile_batch(schema, rows))
            async for rows in _batches(connection, _SQL["changed_tallies"], key):
                yield Change(schema=schema, revision=since, tallies=_tally_batch(rows))
            # Everything is read in the order of an index, a little by going to it pair by pair.
            query = _SQL["all_pairs"] if since < 0 else _SQL["changed_pairs"]
            async for rows in _batches(connection, query, key[:1] if since < 0 else key):
                yield Change(schema=schema, revision=since, pairs=_pair_batch(rows))
            yield Change(schema=schema, revision=head["revision"])

    async def read_arrays(self, tenant: str, domain: str, revision: int) -> DomainArrays:
        """Reads a whole domain; outcomes recorded after the revision stay out."""
        async with (
            self._pool.acquire() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            head = await connection.fetchrow(_SQL["read_domain_head"], tenant, domain)
            if head is None:
                raise DomainNotFoundError(domain)
            schema = _read_schema(domain, head["schema"])
            user_ids: list[str] = []
            vectors, columns = [_vectors(schema, [])], [_columns(schema, [])]
            async for rows in _batches(connection, _SQL["all_users"], (head["domain_id"],)):
                user_ids += [row["user_id"] for row in rows]
                vectors.append(_vectors(schema, rows))
                columns.append(_columns(schema, rows))
            output = io.BytesIO()
            await connection.copy_from_query(
                _SQL["standing_outcomes"].rstrip(";"),
                head["domain_id"],
                revision,
                RETRACTED_LEVEL,
                output=output,
                format="binary",
            )
        content = output.getbuffer()[_COPY_HEADER_BYTES:-_COPY_TRAILER_BYTES]
        outcomes = np.frombuffer(content, _OUTCOME_ROW)
        return DomainArrays(
            schema=schema,
            user_ids=user_ids,
            vectors=np.concatenate(vectors),
            columns=np.concatenate(columns).astype(np.float32),
            seekers=outcomes["seeker"].astype(np.int32),
            candidates=outcomes["candidate"].astype(np.int32),
            levels=outcomes["level"].astype(np.int8),
            weights=outcomes["weight"].astype(np.float32),
            times=outcomes["occurred_at"].astype(np.int64) + _EPOCH_MICROS,
        )


class PostgresDomainUnit(PostgresReplies):
    """One locked domain in one transaction."""

    def __init__(
        self, connection: Connection, tenant: str, domain: str, row: asyncpg.Record
    ) -> None:
        super().__init__(connection)
        self._domain_id = row["domain_id"]
        self._revision = row["revision"] + 1
        self._users_count = row["users_count"]
        self._triplets_added = 0
        self._dirty = False
        self.schema = _read_schema(domain, row["schema"])
        self.labels: Mapping[str, Label] = _read_labels(row["labels"])
        self.counts = DomainCounts(
            tenant=tenant,
            domain=domain,
            revision=row["revision"],
            triplets_count=row["triplets_count"],
            trained_triplets_count=row["trained_triplets_count"],
        )

    async def find_numbers(self, user_ids: Sequence[str]) -> Mapping[str, int]:
        """Returns the numbers of those users that exist."""
        rows = await self._connection.fetch(_SQL["find_numbers"], self._domain_id, user_ids)
        return {row["user_id"]: row["number"] for row in rows}

    async def standing_words(self, pairs: Sequence[Pair]) -> Mapping[Pair, Word]:
        """Returns the word that stands for each of the pairs that have one."""
        seekers = [pair.seeker for pair in pairs]
        candidates = [pair.candidate for pair in pairs]
        rows = await self._connection.fetch(
            _SQL["standing_words"], self._domain_id, seekers, candidates
        )
        return {
            Pair(row["seeker"], row["candidate"]): Word(
                row["occurred_at"], row["level"], row["weight"]
            )
            for row in rows
        }

    async def tallies(self, numbers: Sequence[int]) -> Mapping[int, Tally]:
        """Returns the tallies of existing users."""
        rows = await self._connection.fetch(_SQL["tallies"], self._domain_id, numbers)
        return {row["number"]: Tally(tuple(row["given"]), tuple(row["received"])) for row in rows}

    async def append_outcomes(self, outcomes: Sequence[Outcome]) -> None:
        """Records outcomes."""
        self._dirty = True
        key = (self._domain_id, self._revision)
        records = [(*key, *o.pair, o.label, *o.word, o.match_id) for o in outcomes]
        await self._connection.copy_records_to_table(
            "outcomes", records=records, columns=_OUTCOME_COLUMNS
        )

    async def save_tallies(self, tallies: Mapping[int, Tally], triplets_added: int) -> None:
        """Replaces tallies and moves the domain's triplet count."""
        self._dirty = True
        self._triplets_added += triplets_added
        levels = zip(*((*t.given, *t.received) for t in tallies.values()), strict=True)
        if tallies:
            await self._connection.execute(
                _SQL["save_tallies"], self._domain_id, self._revision, list(tallies), *levels
            )

    async def save_profile(self, profile: Profile, columns: Sequence[float]) -> datetime.datetime:
        """Creates or replaces a user, who keeps their number."""
        self._dirty = True
        vector = None if profile.vector is None else profile.vector.astype("<f2").tobytes()
        row = await self._connection.fetchrow(
            _SQL["save_user"],
            self._domain_id,
            self._users_count,
            profile.user_id,
            self._revision,
            profile.context,
            json.dumps(profile.values),
            np.asarray(columns, "<f8").tobytes(),
            vector,
            profile.encoder,
        )
        assert row is not None
        self._users_count = max(self._users_count, row["number"] + 1)
        update_time: datetime.datetime = row["update_time"]
        return update_time

    async def save_schema(self, schema: Schema) -> None:
        """Replaces the schema."""
        self._dirty = True
        await self._connection.execute(
            _SQL["save_schema"], self._domain_id, _schema_json(schema), self._revision
        )

    async def save_labels(self, labels: Mapping[str, Label]) -> None:
        """Replaces the tenant's own labels."""
        self.labels = labels
        text = json.dumps([dataclasses.asdict(label) for label in labels.values()])
        await self._connection.execute(_SQL["save_labels"], self._domain_id, text)

    async def save_trained_count(self, trained_triplets_count: int) -> None:
        """Replaces the number of triplets that the last successful run saw."""
        await self._connection.execute(
            _SQL["save_trained_count"], self._domain_id, trained_triplets_count
        )

    async def flush(self) -> None:
        """Moves the domain to its new revision, last thing before the commit."""
        if self._dirty:
            await self._connection.execute(
                _SQL["commit_revision"],
                self._domain_id,
                self._revision,
                self._users_count,
                self._triplets_added,
            )


async def _batches(
    connection: Connection, query: str, arguments: tuple[object, ...]
) -> AsyncIterator[list[asyncpg.Record]]:
    cursor = await connection.cursor(query.rstrip(";"), *arguments)
    while rows := await cursor.fetch(BATCH_ROWS_MAX):
        yield rows
        if len(rows) < BATCH_ROWS_MAX:
            return


def _profile_batch(schema: Schema, rows: list[asyncpg.Record]) -> ProfileBatch:
    names = [f.name for f in schema.fields if f.kind == "hard" and f.type == "string"]
    values = [json.loads(row["fields"]) for row in rows] if names else []
    return ProfileBatch(
        user_ids=[row["user_id"] for row in rows],
        numbers=np.array([row["number"] for row in rows], np.int32),
        vectors=_vectors(schema, rows),
        columns=_columns(schema, rows),
        strings={name: [v.get(name, "") for v in values] for name in names},
    )


def _tally_batch(rows: list[asyncpg.Record]) -> TallyBatch:
    effects = [Tally(tuple(row["given"]), tuple(row["received"])).effects for row in rows]
    numbers = np.array([row["number"] for row in rows], np.int32)
    return TallyBatch(numbers=numbers, counts=np.array(effects, np.int32))


def _pair_batch(rows: list[asyncpg.Record]) -> PairBatch:
    return PairBatch(
        numbers=np.array([(row["seeker"], row["candidate"]) for row in rows], np.int32),
        standing=np.array([row["level"] != RETRACTED_LEVEL for row in rows]),
    )


def _vectors(schema: Schema, rows: list[asyncpg.Record]) -> npt.NDArray[np.float16]:
    zeros = bytes(2 * schema.dim)
    content = b"".join(zeros if row["vector"] is None else row["vector"] for row in rows)
    return np.frombuffer(content, "<f2").reshape(len(rows), schema.dim)


def _columns(schema: Schema, rows: list[asyncpg.Record]) -> npt.NDArray[np.float64]:
    """Columns that were added to the schema after a row was written have no value there."""
    size = 8 * len(schema.columns)
    nan = np.array([np.nan], "<f8").tobytes()
    content = b"".join(row["columns"] + nan * ((size - len(row["columns"])) // 8) for row in rows)
    return np.frombuffer(content, "<f8").reshape(len(rows), len(schema.columns))


def _read_labels(text: str) -> dict[str, Label]:
    return {content["name"]: Label(**content) for content in json.loads(text)}


def _schema_json(schema: Schema) -> str:
    return json.dumps(dataclasses.asdict(schema))


def _read_schema(domain: str, text: str) -> Schema:
    content = json.loads(text)
    fields = tuple(
        Field(**{**field, "members": tuple(field["members"])}) for field in content["fields"]
    )
    return Schema(**{**content, "domain": domain, "fields": fields})

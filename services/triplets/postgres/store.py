"""The triplet store's port over a database: reading, and opening a domain for changes."""

import asyncio
import io
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from weakref import WeakValueDictionary

import asyncpg
import numpy as np

from services.chassis.database import EVERYONE, Connection, Database
from services.triplets.core.change_bell import ChangeBell
from services.triplets.core.context import Context
from services.triplets.core.errors import DomainNotFoundError
from services.triplets.core.label import Label
from services.triplets.core.outcome import RETRACTED_LEVEL
from services.triplets.core.pages import PAGES_MAX, SLOTS_MAX
from services.triplets.core.ports import (
    Change,
    DomainArrays,
    DomainCounts,
    DomainUnit,
    OutcomeCounts,
    SharedPart,
    UserSnapshot,
)
from services.triplets.core.profile import StoredProfile
from services.triplets.core.schema import Schema
from services.triplets.postgres.queries import SQL
from services.triplets.postgres.rows import (
    outcome_micros,
    pair_batch,
    profile_batch,
    read_columns,
    read_labels,
    read_outcomes,
    read_pages,
    read_schema,
    read_stored,
    read_vectors,
    schema_json,
    shared_part,
    spread,
    tally_batch,
)
from services.triplets.postgres.unit import PostgresDomainUnit

BATCH_ROWS_MAX = 1_000
"""Rows of one batch of changes: about 1.2 MB with 384-dimensional vectors, under gRPC's 4 MiB."""


class PostgresTripletStore:
    """The triplet store on a database bound to its schema."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._bell = ChangeBell()
        self._turns: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()

    async def create_domain(self, tenant: str, schema: Schema) -> bool:
        """Creates a domain; False if it exists already."""
        values = (tenant, schema.domain, schema_json(schema))
        created = bool(await self._database.of(tenant).fetchval(SQL["create_domain"], *values))
        if created:
            await self._bell.ring()
        return created

    async def count_domains(self, tenant: str) -> int:
        """Returns how many domains a tenant has."""
        return int(await self._database.of(tenant).fetchval(SQL["count_domains"], tenant))

    @asynccontextmanager
    async def _open_domain(self, tenant: str, domain: str) -> AsyncIterator[DomainUnit]:
        # Who waits for a domain waits here, not at its row with a connection in hand: a busy domain
        # must not keep the others from theirs.
        turn = self._turns.setdefault((tenant, domain), asyncio.Lock())
        async with turn, self._database.begin(tenant) as connection:
            row = await connection.fetchrow(SQL["lock_domain"], tenant, domain)
            if row is None:
                raise DomainNotFoundError(domain)
            unit = PostgresDomainUnit(connection, tenant, domain, row)
            yield unit
            await unit.flush()
        await self._bell.ring()

    def open_domain(self, tenant: str, domain: str) -> AbstractAsyncContextManager[DomainUnit]:
        """Locks a domain for changes."""
        return self._open_domain(tenant, domain)

    async def wait_for_change(self, seconds: float) -> None:
        """Returns when this process has changed something, or after so many seconds."""
        await self._bell.wait(seconds)

    async def read_schema(self, tenant: str, domain: str) -> Schema | None:
        """Returns the schema of a domain."""
        text = await self._database.of(tenant).fetchval(SQL["read_schema"], tenant, domain)
        return None if text is None else read_schema(domain, text)

    async def read_labels(self, tenant: str, domain: str) -> Mapping[str, Label] | None:
        """Returns the tenant's own labels of a domain, by name."""
        text = await self._database.of(tenant).fetchval(SQL["read_labels"], tenant, domain)
        return None if text is None else read_labels(text)

    async def read_profile(self, tenant: str, domain: str, user_id: str) -> StoredProfile | None:
        """Returns a user."""
        row = await self._database.of(tenant).fetchrow(SQL["read_user"], tenant, domain, user_id)
        return None if row is None else read_stored(row)

    async def read_profiles(self, tenant: str, user_id: str) -> list[StoredProfile]:
        """Returns a user in each of the first 100 domains that know them."""
        rows = await self._database.of(tenant).fetch(SQL["read_users"], tenant, user_id)
        return [read_stored(row) for row in rows]

    async def read_contexts(self, tenant: str, domain: str, user_id: str) -> list[Context]:
        """Returns what was appended to a user, newest first."""
        rows = await self._database.of(tenant).fetch(SQL["read_contexts"], tenant, domain, user_id)
        return [Context(**dict(row)) for row in rows]

    async def knows_user(self, tenant: str, domain: str, user_id: str, id_hash: bytes) -> bool:
        """Says whether there is or was a user."""
        key = (tenant, domain, user_id, id_hash)
        return bool(await self._database.of(tenant).fetchval(SQL["knows_user"], *key))

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
        key = (tenant, domain, user_id, id_hash)
        rows = await self._database.of(tenant).fetch(
            SQL["list_user_snapshots"], *key, *after, limit
        )
        return [UserSnapshot(**dict(row)) for row in rows]

    async def list_outdated_snapshots(self) -> list[str]:
        """Returns the oldest 1,000 snapshots that hold somebody erased and were not dropped."""
        rows = await self._database.of(EVERYONE).fetch(SQL["list_outdated_snapshots"])
        return [row["digest"] for row in rows]

    async def drop_snapshot(self, digest: str) -> None:
        """Notes that a snapshot's file is gone."""
        await self._database.of(EVERYONE).execute(SQL["drop_snapshot"], digest)

    async def read_counts(self, tenant: str, domain: str) -> DomainCounts | None:
        """Returns a domain in numbers."""
        row = await self._database.of(tenant).fetchrow(SQL["read_counts"], tenant, domain)
        return None if row is None else DomainCounts(**dict(row))

    async def count_outcomes(self, tenant: str, domain: str) -> OutcomeCounts | None:
        """Counts a domain's standing outcomes."""
        row = await self._database.of(tenant).fetchrow(SQL["count_outcomes"], tenant, domain)
        return None if row is None else OutcomeCounts(**dict(row))

    async def list_counts(self, after: tuple[str, str], limit: int) -> list[DomainCounts]:
        """Returns domains with triplets in order."""
        rows = await self._database.of(EVERYONE).fetch(SQL["list_counts"], *after, limit)
        return [DomainCounts(**dict(row)) for row in rows]

    async def read_shared(self, tenant: str, domain: str) -> bool | None:
        """Says whether a domain is shared."""
        shared: bool | None = await self._database.of(tenant).fetchval(
            SQL["read_shared"], tenant, domain
        )
        return shared

    async def list_shared(self, domain: str) -> list[SharedPart]:
        """Returns domains that are shared and have triplets."""
        return [
            shared_part(row)
            for row in await self._database.of(EVERYONE).fetch(SQL["list_shared"], domain)
        ]

    async def read_shared_trained(self) -> Mapping[str, int]:
        """Returns how many triplets the last successful run of shared domains saw."""
        rows = await self._database.of(EVERYONE).fetch(SQL["read_shared_trained"])
        return {row["domain"]: row["trained_triplets_count"] for row in rows}

    async def save_shared_trained(self, domain: str, trained_triplets_count: int) -> None:
        """Replaces the number of triplets that the last successful run of a shared domain saw."""
        await self._database.of(EVERYONE).execute(
            SQL["save_shared_trained"], domain, trained_triplets_count
        )

    async def read_revisions(self) -> Mapping[tuple[str, str], int]:
        """Returns the revision of every domain."""
        rows = await self._database.of(EVERYONE).fetch(SQL["read_revisions"])
        return {(row["tenant"], row["domain"]): row["revision"] for row in rows}

    async def read_changes(self, tenant: str, domain: str, since: int) -> AsyncIterator[Change]:
        """Reads everything changed after a revision."""
        async with self._database.begin(tenant, snapshot=True) as connection:
            head = await connection.fetchrow(SQL["read_domain_head"], tenant, domain)
            if head is None:
                return
            schema = read_schema(domain, head["schema"])
            if head["schema_revision"] > since:
                since = -1  # columns may have been added: everyone is sent anew
            key = (head["domain_id"], since)
            async for rows in _batches(connection, SQL["erased_users"], key):
                removals = np.array([row["number"] for row in rows], np.int32)
                yield Change(schema=schema, revision=since, removals=removals)
            async for rows in _batches(connection, SQL["changed_users"], key):
                yield Change(schema=schema, revision=since, profiles=profile_batch(schema, rows))
            async for rows in _batches(connection, SQL["changed_tallies"], key):
                yield Change(schema=schema, revision=since, tallies=tally_batch(rows))
            # Everything is read in the order of an index, a little by going to it pair by pair.
            query = SQL["all_pairs"] if since < 0 else SQL["changed_pairs"]
            async for rows in _batches(connection, query, key[:1] if since < 0 else key):
                yield Change(schema=schema, revision=since, pairs=pair_batch(rows))
            yield Change(schema=schema, revision=head["revision"])

    async def read_arrays(self, tenant: str, domain: str, revision: int) -> DomainArrays:
        """Reads a whole domain; outcomes recorded after the revision stay out."""
        async with self._database.begin(tenant, snapshot=True) as connection:
            head = await connection.fetchrow(SQL["read_domain_head"], tenant, domain)
            if head is None:
                raise DomainNotFoundError(domain)
            schema = read_schema(domain, head["schema"])
            users_count = head["users_count"]
            user_ids = [""] * users_count
            numbers: list[int] = []
            vectors, columns = [read_vectors(schema, [])], [read_columns(schema, [])]
            async for rows in _batches(connection, SQL["all_users"], (head["domain_id"],)):
                for row in rows:
                    user_ids[row["number"]] = row["user_id"]
                numbers += [row["number"] for row in rows]
                vectors.append(read_vectors(schema, rows))
                columns.append(read_columns(schema, rows))
            output = io.BytesIO()
            await connection.copy_from_query(
                SQL["standing_outcomes"].rstrip(";"),
                head["domain_id"],
                revision,
                RETRACTED_LEVEL,
                output=output,
                format="binary",
            )
            key = (head["domain_id"], revision)
            logged = await connection.fetch(SQL["logged_pages"], *key, PAGES_MAX, SLOTS_MAX)

        def joined() -> DomainArrays:
            outcomes = read_outcomes(output.getbuffer())
            places = numbers, users_count
            return DomainArrays(
                schema=schema,
                read_revision=head["revision"],
                user_ids=user_ids,
                vectors=spread(np.concatenate(vectors), *places, 0),
                columns=spread(np.concatenate(columns), *places, np.nan).astype(np.float32),
                seekers=outcomes["seeker"].astype(np.int32),
                candidates=outcomes["candidate"].astype(np.int32),
                levels=outcomes["level"].astype(np.int8),
                weights=outcomes["weight"].astype(np.float32),
                times=outcome_micros(outcomes),
                pages=read_pages(logged),
            )

        return await asyncio.to_thread(joined)  # seconds, of a million people


async def _batches(
    connection: Connection, query: str, arguments: tuple[object, ...]
) -> AsyncIterator[list[asyncpg.Record]]:
    cursor = await connection.cursor(query.rstrip(";"), *arguments)
    while rows := await cursor.fetch(BATCH_ROWS_MAX):
        yield rows
        if len(rows) < BATCH_ROWS_MAX:
            return

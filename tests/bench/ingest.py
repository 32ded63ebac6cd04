"""People and outcomes in over REST, against PostgreSQL alone with the same rows."""

import asyncio
import time
from collections.abc import Iterable, Iterator

import asyncpg
import numpy as np

from services.mesh.client import Json
from tests.bench.rest import Connection, open_connections
from tests.bench.table import Table
from tests.support.mesh import Mesh

DOMAIN = "bench"
PEOPLE = 2_000
DIM = 64
OUTCOMES = 20_000
BATCH = 1_000
CALLERS = 8
SEED = 7

Row = tuple[object, ...]


async def measure_people(mesh: Mesh, table: Table) -> None:
    """A domain of people with vectors of their own, each a request."""
    fields = [{"name": "age", "kind": "hard", "type": "integer"}]
    embedding = {"encoder": "caller", "dim": DIM}
    mesh.call("PUT", "/v1/schema", {"domain": DOMAIN, "fields": fields, "embedding": embedding})
    vectors = np.random.default_rng(SEED).normal(size=(PEOPLE, DIM)).round(4)
    users: list[Json] = [
        {
            "user_id": f"u{number}",
            "domain": DOMAIN,
            "fields": {"age": 20 + number % 40},
            "vector": vector.tolist(),
        }
        for number, vector in enumerate(vectors)
    ]
    seconds = await _post(mesh, "/v1/users", users, CALLERS)
    rows: list[list[Row]] = [[(user["user_id"], 20, vectors[0].tobytes())] for user in users]
    floor = await _copy(mesh, "id text primary key, age integer, vector bytea", rows)
    table.compare("people in by REST", PEOPLE / seconds, "COPY, a person a commit", PEOPLE / floor)


async def measure_outcomes(mesh: Mesh, table: Table) -> None:
    """Outcomes in batches, one after another."""
    items = _make_outcomes()
    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    bodies: list[Json] = [{"domain": DOMAIN, "items": batch} for batch in batches]
    seconds = await _post(mesh, "/v1/feedback", bodies, callers=1)
    rows = [[tuple(item.values()) for item in batch] for batch in batches]
    floor = await _copy(mesh, "seeker text, candidate text, word text", rows)
    name = f"outcomes in by REST, {BATCH:,} a call"
    table.compare(name, OUTCOMES / seconds, "COPY, as many a commit", OUTCOMES / floor)


def _make_outcomes() -> list[Json]:
    """Outcomes that depend on the candidate alone, so that there is something to learn."""
    random = np.random.default_rng(SEED)
    pairs = random.integers(0, PEOPLE, (OUTCOMES, 2))
    liked = random.random(PEOPLE)
    return [
        {
            "seeker_id": f"u{seeker}",
            "candidate_id": f"u{(candidate + (candidate == seeker)) % PEOPLE}",
            "outcome": "accepted" if random.random() < liked[candidate] else "rejected",
        }
        for seeker, candidate in pairs
    ]


async def _post(mesh: Mesh, path: str, bodies: list[Json], callers: int) -> float:
    """Seconds that some callers together take to post all bodies."""

    async def work(connection: Connection, requests: Iterator[bytes]) -> None:
        for request in requests:
            assert await connection.ask(request) is not None

    async with open_connections(mesh, callers) as connections:
        requests = iter([connections[0].post(path, body) for body in bodies])
        began = time.perf_counter()
        await asyncio.gather(*(work(connection, requests) for connection in connections))
        return time.perf_counter() - began


async def _copy(mesh: Mesh, columns: str, batches: Iterable[list[Row]]) -> float:
    """Seconds that one connection takes to copy all batches into a table, each a commit."""
    connection = await asyncpg.connect(mesh.told["postgres"])
    try:
        await connection.execute(f"create table bench_floor ({columns})")
        began = time.perf_counter()
        for batch in batches:
            await connection.copy_records_to_table("bench_floor", records=batch)
        seconds = time.perf_counter() - began
        await connection.execute("drop table bench_floor")
    finally:
        await connection.close()
    return seconds

"""Heads swapped back and forth while matches are asked: nothing may fail, nor wait for a swap."""

import asyncio
import time
from statistics import median

from services.mesh.client import Json
from tests.bench.ingest import CALLERS, DOMAIN
from tests.bench.matches import rest_calls
from tests.bench.rates import Rate, call_for, middle
from tests.bench.rest import Connection, open_connections
from tests.bench.table import Table
from tests.support.mesh import Mesh

ROUNDS = 3
SECONDS = 3.0
PAUSE_SECONDS = 0.005


async def measure_swaps(mesh: Mesh, head: str, table: Table) -> None:
    """Between the trained head and the general tier, as fast as the answers follow.

    The head is the slower of the two: matches without swaps are all its own.
    """
    steady: list[Rate] = []
    swapping: list[Rate] = []
    spent: list[float] = []
    async with open_connections(mesh, CALLERS + 1) as connections:
        calls = rest_calls(connections[1:])
        for _ in range(ROUNDS):
            steady.append(await call_for(SECONDS, calls))
            enough = asyncio.Event()
            swapper = asyncio.create_task(_swap(connections[0], head, enough, spent))
            swapping.append(await call_for(SECONDS, calls))
            enough.set()
            await swapper
    quiet, busy = middle(steady), middle(swapping)
    table.tell("swaps while matches are asked over REST", len(spent), "")
    table.tell("  matches that failed", quiet.failed + busy.failed, "")
    table.compare("  p99 of matches", busy.p99_ms, "without swaps", quiet.p99_ms, "ms")
    table.tell("  rolled back until the other head answers", median(spent) * 1e3, "ms")


async def _swap(
    connection: Connection, head: str, enough: asyncio.Event, spent: list[float]
) -> None:
    """Away from the head and back to it, until it is enough."""
    match = connection.post("/v1/match", {"user_id": "u0", "domain": DOMAIN, "limit": 1})
    named = f'"{head}"'.encode()
    away: Json = {"domain": DOMAIN}
    while not enough.is_set():
        for body in (away, away | {"head": head}):
            began = time.perf_counter()
            assert await connection.ask(connection.post("/v1/heads:rollBack", body)) is not None
            while True:
                answer = await connection.ask(match)
                if answer and (named in answer) == ("head" in body):
                    break
                await asyncio.sleep(PAUSE_SECONDS)
            spent.append(time.perf_counter() - began)

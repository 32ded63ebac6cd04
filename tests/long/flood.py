"""Calls of a mesh: as many as it answers, or as many a second as one says."""

import asyncio
import math
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.bench.rest import Connection, open_connections
from tests.support.mesh import Mesh

FLOOD_CONNECTIONS = 3_000
GOOD = "200"
SHED = "429, says when to call again"

Pair = tuple[str, str]
Request = tuple[Pair, bytes]
"""Whom it is about, and its bytes."""


@dataclass
class Answers:
    """What was answered to some calls."""

    offered: float = math.nan
    """Calls a second."""
    seconds: float = 0.0
    unsent: int = 0
    """There was no connection free for them."""
    kinds: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    """Of the good answers, in seconds."""
    pairs: dict[str, list[Pair]] = field(default_factory=dict)
    """Whom the calls were about, by kind of answer."""

    def add(self, kind: str, pair: Pair, seconds: float) -> None:
        """Counts an answer."""
        self.kinds[kind] += 1
        self.pairs.setdefault(kind, []).append(pair)
        if kind == GOOD:
            self.latencies.append(seconds)

    @property
    def rate(self) -> float:
        """Good answers a second."""
        return self.kinds[GOOD] / self.seconds

    @property
    def others(self) -> Counter[str]:
        """Answers that are neither good nor a refusal that says when to call again."""
        return Counter({k: n for k, n in self.kinds.items() if k not in (GOOD, SHED)})

    def percentile_ms(self, percent: int) -> float:
        """Of the good answers' latencies."""
        return statistics.quantiles(self.latencies, n=100)[percent - 1] * 1_000


async def call_in_turn(
    mesh: Mesh, requests: Iterator[Request], clients: int, seconds: float
) -> Answers:
    """Clients that call again as soon as they are answered."""
    answers = Answers()
    began = time.perf_counter()

    async def work(connection: Connection) -> None:
        while time.perf_counter() < began + seconds:
            await _call(connection, next(requests), answers)

    async with open_connections(mesh, clients) as connections:
        began = time.perf_counter()
        await asyncio.gather(*(work(connection) for connection in connections))
    answers.seconds = time.perf_counter() - began
    return answers


async def flood(
    mesh: Mesh, requests: Iterator[Request], per_second: float, seconds: float
) -> Answers:
    """Calls at a rate, whether those before them are answered or not."""
    answers = Answers(offered=per_second)
    calls: set[asyncio.Task[None]] = set()

    async def work(connection: Connection, request: Request) -> None:
        await _call(connection, request, answers)
        if connection.is_open():
            free.append(connection)

    async with open_connections(mesh, FLOOD_CONNECTIONS) as free:
        began, made = time.perf_counter(), 0
        while (passed := time.perf_counter() - began) < seconds:
            for _ in range(int(passed * per_second) - made):
                made += 1
                if not free:
                    answers.unsent += 1
                    continue
                task = asyncio.create_task(work(free.pop(), next(requests)))
                calls.add(task)
                task.add_done_callback(calls.discard)
            await asyncio.sleep(0.001)
        await asyncio.gather(*calls)
    answers.seconds = time.perf_counter() - began
    return answers


async def _call(connection: Connection, request: Request, answers: Answers) -> None:
    pair, content = request
    began = time.perf_counter()
    try:
        head, _ = await connection.exchange(content)
    except (asyncio.IncompleteReadError, OSError):
        answers.add("broken off", pair, 0.0)
        return
    status = head[9:12].decode()
    kind = SHED if status == "429" and b"\r\nretry-after: " in head else status
    answers.add(kind, pair, time.perf_counter() - began)

"""More than the mesh can do: 10,000 connections that say nothing, and three times what it answers.

The clients run on the machine of the mesh and take their share of it. The capacity is measured
before and after each flood, because a machine is not always as fast.
"""

import itertools
import random
import statistics
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import uvloop

from services.mesh.verify import verify_mesh
from tests.bench.rest import Connection, open_connections
from tests.long.flood import GOOD, SHED, Answers, Pair, Request, call_in_turn, flood
from tests.long.memory import Memory
from tests.long.record import Record
from tests.support.mesh import Mesh, running_mesh

DOMAIN = "load"
PEOPLE = 400
IDLE_CONNECTIONS = 10_000
IDLE_SECONDS = 20.0
IDLE_CLIENTS = 4
CAPACITY_CLIENTS = 32
TIMES = 3
"""As much as the capacity is offered in a flood."""
ROUNDS = 5
ROUND_SECONDS = 5.0
GOODPUT_SHARE_MIN = 0.8
UNSENT_SHARE_MAX = 0.02
"""Otherwise the flood is not what it says."""
GROWTH_MIB_MAX = 256
_WORDS = """
select a.user_id, b.user_id from triplets.outcomes o
join triplets.users a on (a.domain_id, a.number) = (o.domain_id, o.seeker)
join triplets.users b on (b.domain_id, b.number) = (o.domain_id, o.candidate)
"""


def measure_load(record: Record) -> bool:
    """Holds if idle connections hinder nobody, and a flood is shed and loses nothing."""
    with (
        tempfile.TemporaryDirectory(prefix="trine-load-") as folder,
        running_mesh(Path(folder), TRINE_TRIPLETS_BUDGET="100000000") as mesh,
    ):
        mesh.fill(DOMAIN, PEOPLE)
        return uvloop.run(_measure(mesh, record))


async def _measure(mesh: Mesh, record: Record) -> bool:
    async with open_connections(mesh, 1) as (connection,):
        matches = _matches(connection)
        outcomes = _outcomes(connection, record.seed)
    memory = Memory(mesh.told["pids"])
    async with memory.watched():
        held = [await _hold_idle(mesh, matches, record)]
        rounds = [("matches", *await _round(mesh, matches)) for _ in range(ROUNDS)]
        rounds += [("outcomes", *await _round(mesh, outcomes)) for _ in range(ROUNDS)]
    held.append(_say_floods(record, rounds))
    held.append(_say_memory(record, memory))
    floods = [answers for name, *told in rounds if name == "outcomes" for answers in told]
    held.append(await _say_outcomes(record, mesh, floods))
    broken = [one for one in await verify_mesh(mesh.home) if one.result != "ok"]
    record.say(f"`trine verify` afterwards: {len(broken)} rules that did not hold.")
    return all(held) and not broken


def _matches(connection: Connection) -> Iterator[Request]:
    bodies = [{"user_id": f"u{number}", "domain": DOMAIN} for number in range(PEOPLE)]
    made = [connection.post("/v1/match", body) for body in bodies]
    return ((("", ""), request) for request in itertools.cycle(made))


def _outcomes(connection: Connection, seed: int) -> Iterator[Request]:
    """One outcome a call, each of a pair that no other call is about."""
    pairs = [(f"u{a}", f"u{b}") for a in range(PEOPLE) for b in range(PEOPLE) if a != b]
    random.Random(seed).shuffle(pairs)
    for seeker, candidate in pairs:
        item = {"seeker_id": seeker, "candidate_id": candidate, "outcome": "accepted"}
        body = {"domain": DOMAIN, "items": [item]}
        yield (seeker, candidate), connection.post("/v1/feedback", body)


async def _hold_idle(mesh: Mesh, matches: Iterator[Request], record: Record) -> bool:
    alone = await call_in_turn(mesh, matches, IDLE_CLIENTS, IDLE_SECONDS)
    async with open_connections(mesh, IDLE_CONNECTIONS) as idle:
        beside = await call_in_turn(mesh, matches, IDLE_CLIENTS, IDLE_SECONDS)
        still_open = sum(connection.is_open() for connection in idle)
    told = {"alone": alone, f"beside {still_open:,} idle connections": beside}
    rows = [
        (
            name,
            f"{answers.rate:,.0f}",
            f"{answers.percentile_ms(50):.1f}",
            f"{answers.percentile_ms(99):.1f}",
            answers.kinds.total() - answers.kinds[GOOD],
        )
        for name, answers in told.items()
    ]
    columns = ("good a second", "p50, ms", "p99, ms", "not answered")
    record.table((f"matches for {IDLE_CLIENTS} clients", *columns), rows)
    print(rows, flush=True)
    return still_open == IDLE_CONNECTIONS and not beside.others and not beside.kinds[SHED]


async def _round(mesh: Mesh, requests: Iterator[Request]) -> tuple[Answers, Answers, Answers]:
    """The capacity, a flood over it, and the capacity again."""
    before = await call_in_turn(mesh, requests, CAPACITY_CLIENTS, ROUND_SECONDS)
    flooded = await flood(mesh, requests, before.rate * TIMES, ROUND_SECONDS)
    after = await call_in_turn(mesh, requests, CAPACITY_CLIENTS, ROUND_SECONDS)
    print(f"{before.rate:.0f} {flooded.rate:.0f} {after.rate:.0f} {flooded.kinds}", flush=True)
    return before, flooded, after


def _say_floods(record: Record, rounds: list[tuple[str, Answers, Answers, Answers]]) -> bool:
    rows: list[tuple[object, ...]] = []
    shares: dict[str, list[float]] = {}
    held = True
    for name, before, flooded, after in rounds:
        share = flooded.rate / statistics.fmean((before.rate, after.rate))
        shares.setdefault(name, []).append(share)
        rows.append(
            (
                name,
                f"{before.rate:,.0f} and {after.rate:,.0f}",
                f"{flooded.offered:,.0f}",
                f"{flooded.rate:,.0f}",
                f"{share:.0%}",
                f"{flooded.kinds[SHED]:,}",
                f"{flooded.percentile_ms(99):,.0f}",
                ", ".join(f"{n} of {kind}" for kind, n in flooded.others.items()) or "none",
                flooded.unsent,
            )
        )
        held &= not (before.others or flooded.others or after.others)
        held &= flooded.unsent <= UNSENT_SHARE_MAX * flooded.offered * ROUND_SECONDS
    columns = ["calls", "capacity before and after, a second", "offered a second"]
    columns += ["good a second", "of the capacity", SHED, "good ones' p99, ms"]
    record.table((*columns, "other answers", "not sent for want of a connection"), rows)
    medians = {name: statistics.median(found) for name, found in shares.items()}
    told = ", ".join(f"{median:.0%} for {name}" for name, median in medians.items())
    record.say(f"The median goodput is {told}; {GOODPUT_SHARE_MIN:.0%} must be reached.")
    return held and all(median >= GOODPUT_SHARE_MIN for median in medians.values())


def _say_memory(record: Record, memory: Memory) -> bool:
    columns = ("process", "resident before, MiB", "at most, MiB", "afterwards, MiB")
    record.table(columns, memory.rows())
    record.say(f"None may grow by more than {GROWTH_MIB_MAX} MiB.")
    return memory.growth() <= GROWTH_MIB_MAX


async def _say_outcomes(record: Record, mesh: Mesh, floods: list[Answers]) -> bool:
    """What was acknowledged must stand, and what was refused must not."""
    connection = await asyncpg.connect(mesh.told["postgres"])
    try:
        standing = {tuple(row) for row in await connection.fetch(_WORDS)}
    finally:
        await connection.close()
    good, shed = _told(floods, GOOD), _told(floods, SHED)
    lost, undue = len(good - standing), len(shed & standing)
    record.say(
        f"Of {len(good):,} outcomes acknowledged {lost} are lost; of {len(shed):,} refused "
        f"{undue} stand all the same."
    )
    return lost == undue == 0


def _told(floods: list[Answers], kind: str) -> set[Pair]:
    return {pair for answers in floods for pair in answers.pairs.get(kind, ())}

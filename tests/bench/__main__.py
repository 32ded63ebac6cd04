"""Measures a mesh of its own against its floors and prints the ratios: python -m tests.bench.

All of one run's figures come from one machine in one state: quote the ratios, not the figures.
"""

import asyncio
import tempfile
import time
from pathlib import Path

import asyncpg
import grpc
import numpy as np
from trine.serving.v1 import match_service_pb2, match_service_pb2_grpc

from services.mesh.client import Client, Json, open_client
from tests.support.mesh import Mesh, running_mesh

PEOPLE = 2_000
DIM = 64
OUTCOMES = 20_000
BATCH = 1_000
SECONDS = 4.0
CALLERS = 8
TRIPLETS = 4_218
SEEKERS = 900
DOMAIN = "bench"
SEED = 7


async def bring_in(client: Client) -> None:
    """A domain of people with vectors of their own."""
    random = np.random.default_rng(SEED)
    fields = [{"name": "age", "kind": "hard", "type": "integer"}]
    embedding = {"encoder": "caller", "dim": DIM}
    await client.call(
        "PUT", "/v1/schema", {"domain": DOMAIN, "fields": fields, "embedding": embedding}
    )
    users: list[Json] = [
        {
            "user_id": f"u{number}",
            "domain": DOMAIN,
            "fields": {"age": 20 + number % 40},
            "vector": random.normal(size=DIM).round(4).tolist(),
        }
        for number in range(PEOPLE)
    ]
    began = time.perf_counter()
    await client.call_all("POST", "/v1/users", users, lambda: None)
    print(f"people in by REST                {PEOPLE / (time.perf_counter() - began):10,.0f} /s")


def make_outcomes(count: int) -> list[Json]:
    """Outcomes that depend on the candidate alone, so that there is something to learn."""
    random = np.random.default_rng(SEED)
    pairs = random.integers(0, PEOPLE, (count, 2))
    liked = random.random(PEOPLE)
    return [
        {
            "seeker_id": f"u{seeker}",
            "candidate_id": f"u{(candidate + (candidate == seeker)) % PEOPLE}",
            "outcome": "accepted" if random.random() < liked[candidate] else "rejected",
        }
        for seeker, candidate in pairs
    ]


async def measure_outcomes(client: Client, dsn: str) -> None:
    """Outcomes accepted by POST /v1/feedback against COPY of the same columns."""
    items = make_outcomes(OUTCOMES)
    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    began = time.perf_counter()
    for batch in batches:
        await client.call("POST", "/v1/feedback", {"domain": DOMAIN, "items": batch})
    accepted = len(items) / (time.perf_counter() - began)
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(
            "create table bench_floor (seeker text, candidate text, word text)"
        )
        rows = [(i["seeker_id"], i["candidate_id"], i["outcome"]) for i in items]
        began = time.perf_counter()
        for start in range(0, len(rows), BATCH):
            await connection.copy_records_to_table(
                "bench_floor", records=rows[start : start + BATCH]
            )
        floor = len(rows) / (time.perf_counter() - began)
        await connection.execute("drop table bench_floor")
    finally:
        await connection.close()
    print(f"outcomes accepted                {accepted:10,.0f} /s")
    print(f"raw COPY, as many a time         {floor:10,.0f} /s   ratio {accepted / floor:.3f}")


async def measure_matches(mesh: Mesh, client: Client) -> None:
    """Matches by REST and by gRPC through Envoy, and by gRPC at serving's own port."""

    async def rest() -> None:
        await client.call("POST", "/v1/match", {"user_id": "u1", "domain": DOMAIN, "limit": 10})

    await report_rate("matches by REST through Envoy", rest)
    metadata = (("authorization", f"Bearer {mesh.told['api_key']}"),)
    request = match_service_pb2.FindMatchesRequest(user_id="u1", domain=DOMAIN, limit=10)
    ports = (("through Envoy", mesh.told["grpc"]), ("direct", mesh.told["services"]["serving"]))
    for name, address in ports:
        async with grpc.aio.insecure_channel(address) as channel:
            stub = match_service_pb2_grpc.MatchServiceStub(channel)

            async def call(stub: match_service_pb2_grpc.MatchServiceStub = stub) -> None:
                await stub.FindMatches(request, metadata=metadata)

            await report_rate(f"matches by gRPC {name}", call)


async def report_rate(name: str, call: object) -> None:
    """Calls from some callers for a while and prints the rate and the 99th percentile."""
    assert callable(call)
    spent: list[float] = []
    end = time.perf_counter() + SECONDS

    async def caller() -> None:
        while (began := time.perf_counter()) < end:
            await call()
            spent.append(time.perf_counter() - began)

    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    p99 = np.percentile(spent, 99) * 1e3
    print(f"{name:<32} {len(spent) / SECONDS:10,.0f} /s   p99 {p99:.1f} ms")


async def measure_turn(client: Client) -> None:
    """From POST /v1/train over as many triplets as the API's example to the new head answering."""
    domain = "turn"
    fields = [{"name": "age", "kind": "hard", "type": "integer"}]
    embedding = {"encoder": "caller", "dim": DIM}
    await client.call(
        "PUT", "/v1/schema", {"domain": domain, "fields": fields, "embedding": embedding}
    )
    random = np.random.default_rng(SEED)
    users: list[Json] = [
        {"user_id": f"u{n}", "domain": domain, "vector": random.normal(size=DIM).tolist()}
        for n in range(SEEKERS)
    ]
    await client.call_all("POST", "/v1/users", users, lambda: None)
    pending = 0
    seeker = 0
    while pending < TRIPLETS:
        items = [
            {
                "seeker_id": f"u{seeker}",
                "candidate_id": f"u{candidate}",
                "outcome": "accepted"
                if random.random() < 0.1 + 0.8 * (candidate % 2)
                else "rejected",
            }
            for candidate in random.choice(SEEKERS, 6, replace=False)
            if candidate != seeker
        ]
        answer = await client.call("POST", "/v1/feedback", {"domain": domain, "items": items})
        pending = answer["triplets_pending_train"]
        seeker += 1
    began = time.perf_counter()
    answer = await client.call("POST", "/v1/train", {"domain": domain, "force": True})
    while True:
        run = await client.call("GET", f"/v1/runs/{answer['run_id']}")
        if run["status"] in {"succeeded", "failed", "cancelled"}:
            break
        await asyncio.sleep(0.02)
    trained = time.perf_counter() - began
    result = run["verdict"]["result"]
    print(f"a run over {pending:,} triplets, {result:<9} {trained:10.2f} s")
    while result == "promoted":
        body = {"user_id": "u1", "domain": domain, "limit": 1}
        used = (await client.call("POST", "/v1/match", body))["models_used"]
        if any(model["version"] == run["head"] for model in used.values()):
            print(f"the new head answers after       {time.perf_counter() - began:10.2f} s")
            break


async def main() -> None:
    """Runs every measurement, one after another."""
    with (
        tempfile.TemporaryDirectory(prefix="trine-bench-") as folder,
        running_mesh(Path(folder), TRINE_TRIPLETS_BUDGET="1000000") as mesh,
    ):
        async with open_client(mesh.told["rest"], mesh.told["api_key"]) as client:
            await bring_in(client)
            await measure_outcomes(client, mesh.told["postgres"])
            await measure_matches(mesh, client)
            await measure_turn(client)


if __name__ == "__main__":
    asyncio.run(main())

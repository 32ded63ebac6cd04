"""Processes of a mesh that die at chosen points, and what must be true of it afterwards."""

import ast
import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import asyncpg

from services.mesh import launch
from services.mesh.programs import python_module
from services.mesh.verify import verify_mesh
from tests.support.crowd import DOMAIN, TRIED, Acknowledged
from tests.support.listeners import read_events
from tests.support.mesh import ENDS, Json, Mesh, run_async, running_mesh, until

SERVICES = Path(__file__).parents[2] / "services"
OWNERS = {"outbox": "scheduler", "artifacts": "gateway"}
"""The service that dies at the points of a part of the chassis."""
QUIET_SECONDS_MAX = 60
SETTINGS = {
    "TRINE_TRIPLETS_BUDGET": "1000000",
    "TRINE_LEASE_SECONDS": "3",
    "TRINE_WEBHOOK_NETWORKS": "127.0.0.1/32",
}


def crash_points() -> dict[str, list[str]]:
    """Every point in the source by the service that passes it, each once."""
    found: dict[str, list[str]] = {}
    for path in sorted(SERVICES.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "crashpoint":
                (argument,) = node.args
                assert isinstance(argument, ast.Constant), f"{path}: a point has a plain name"
                part = str(argument.value).partition(".")[0]
                found.setdefault(OWNERS.get(part, part), []).append(str(argument.value))
    names = [name for points in found.values() for name in points]
    assert len(set(names)) == len(names), "two points have one name"
    return found


class Crashes:
    """The deaths that are planned for the services of a mesh."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def plan(self, deaths: Mapping[str, Mapping[str, int]]) -> None:
        """By service, the points to die at, and at which passing of each."""
        for service, points in deaths.items():
            unfinished = self.folder / f"{service}.plan"
            unfinished.write_text("".join(f"{name}:{n}\n" for name, n in points.items()))
            unfinished.replace(self.folder / service)

    def wait(self, seconds_max: float) -> None:
        """Waits until somebody has died at each of the points."""
        deadline = time.monotonic() + seconds_max
        while (left := self._left()) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert left == [], f"nobody came to {left}"

    def _left(self) -> list[str]:
        files = [path for path in self.folder.iterdir() if not path.suffix]
        return [line for path in files for line in path.read_text().splitlines()]


@contextmanager
def mortal_mesh(folder: Path) -> Iterator[tuple[Mesh, Crashes]]:
    """A mesh whose services can be told where to die, and are started again at once."""
    crashes = Crashes(folder / "crashes")
    crashes.folder.mkdir(parents=True)
    quick = patch.object(
        launch, "python_module", lambda _: python_module("tests.support.impatient")
    )
    with quick, running_mesh(folder, TRINE_CRASH=str(crashes.folder), **SETTINGS) as mesh:
        yield mesh, crashes


def verify(mesh: Mesh, told: Acknowledged, heard: Sequence[tuple[bytes, object]]) -> None:
    """Waits until the mesh is quiet and checks it against what it has acknowledged."""
    _check_runs(mesh, told)
    run_async(_check_outcomes(mesh, told))
    _check_people(mesh, told)
    _check_heads(mesh)
    _check_files(mesh, told, heard)
    run_async(_check_events(mesh))
    broken = [one for one in run_async(verify_mesh(mesh.home)) if one.result != "ok"]
    assert broken == [], broken


def _check_runs(mesh: Mesh, told: Acknowledged) -> None:
    """No run is stuck, and none that was acknowledged is gone."""
    states = {
        run["run_id"]: run["status"] for domain in (DOMAIN, TRIED) for run in runs(mesh, domain)
    }
    assert set(told.runs) <= set(states)
    for run_id in states:
        mesh.ended(run_id, QUIET_SECONDS_MAX)


def runs(mesh: Mesh, domain: str) -> list[Json]:
    """All runs of a domain."""
    found: list[Json] = []
    token = ""
    while True:
        page = mesh.call("GET", "/v1/runs", domain=domain, page_token=token)
        found += page["runs"]
        token = page["next_page_token"]
        if not token:
            return found


async def _check_outcomes(mesh: Mesh, told: Acknowledged) -> None:
    """No acknowledged outcome is lost or doubled, and the counts are those of what stands."""
    connection = await asyncpg.connect(mesh.told["postgres"])
    try:
        rows = await connection.fetch(
            "select s.user_id as seeker, c.user_id as candidate, count(*) as times "
            "from triplets.outcomes o join triplets.domains d using (domain_id) "
            "join triplets.users s on s.domain_id = o.domain_id and s.number = o.seeker "
            "join triplets.users c on c.domain_id = o.domain_id and c.number = o.candidate "
            "where d.domain = $1 group by 1, 2",
            DOMAIN,
        )
        triplets = await connection.fetchval(
            "select triplets_count from triplets.domains where domain = $1", DOMAIN
        )
    finally:
        await connection.close()
    times = {(row["seeker"], row["candidate"]): row["times"] for row in rows}
    assert [pair for pair in told.pairs if pair not in times] == [], "lost"
    assert {pair: n for pair, n in times.items() if n != 1} == {}, "counted twice"
    assert len(times) == len(told.pairs), "one that nobody was told of"
    # Each seeker says as often yes as no, and each yes is joined with 8 noes at most.
    counts = [yeses // 2 for yeses in Counter(pair[0] for pair in told.pairs).values()]
    assert triplets == sum(count * min(count, 8) for count in counts)


def _check_people(mesh: Mesh, told: Acknowledged) -> None:
    for user_id in told.people:
        assert mesh.call("GET", f"/v1/users/{user_id}", domain=DOMAIN)["user_id"] == user_id
    for user_id in told.erased:
        refusal = mesh.refused("GET", f"/v1/users/{user_id}", domain=DOMAIN)
        assert refusal["reason"] == "USER_NOT_FOUND"


def _check_heads(mesh: Mesh) -> None:
    """The head that serves is the one that the pointer points at."""
    for domain in (DOMAIN, TRIED):
        heads = mesh.call("GET", "/v1/heads", domain=domain, page_size=1_000)["heads"]
        wanted = [head["head"] for head in heads if head["promoted"]] or ["all-minilm-l6-v2"]

        def served(domain: str = domain, wanted: Sequence[str] = wanted) -> bool | None:
            answer = mesh.attempt("POST", "/v1/match", {"user_id": "u1", "domain": domain})
            return (
                answer is not None and [answer["models_used"]["embedding"]["version"]] == wanted
            ) or None

        until(served, 20)


def _check_files(mesh: Mesh, told: Acknowledged, heard: Sequence[tuple[bytes, object]]) -> None:
    """Files hold the bytes that were sent; each job has ended, and somebody was told so."""
    for file_id, content in told.files.items():
        assert mesh.http.get(f"/v1/files/{file_id}/content").content == content
    for job_id in told.jobs:
        _until_ended(mesh, job_id)
    run_async(_let_a_minute_pass(mesh))
    for job_id in told.jobs:
        _until_heard(heard, job_id)


def _until_ended(mesh: Mesh, job_id: str) -> None:
    path = f"/v1/fine_tuning/jobs/{job_id}"
    until(lambda: mesh.call("GET", path)["status"] in ENDS or None, QUIET_SECONDS_MAX)


def _until_heard(heard: Sequence[tuple[bytes, object]], job_id: str) -> None:
    until(lambda: any(job_id.encode() in body for body, _ in heard) or None, 20)


async def _let_a_minute_pass(mesh: Mesh) -> None:
    """So long a delivery belongs to a sender that has died with it."""
    connection = await asyncpg.connect(mesh.told["postgres"])
    try:
        await connection.execute(
            "update gateway.webhook_deliveries set next_time = now() where state = 'pending'"
        )
    finally:
        await connection.close()


async def _check_events(mesh: Mesh) -> None:
    """Everything is told, nothing twice under two ids, and of each run in order."""
    connection = await asyncpg.connect(mesh.told["postgres"])
    try:
        untold = "select count(*) from scheduler.outbox where publish_time is null"
        for _ in range(QUIET_SECONDS_MAX * 10):
            if not await connection.fetchval(untold):
                break
            await asyncio.sleep(0.1)
        rows = await connection.fetch("select event_id from scheduler.outbox order by id")
        messages = await read_events(mesh.told["nats"], mesh.told["tenant"])
        found = [json.loads(message.data) for message in messages]
    finally:
        await connection.close()
    assert {event["id"] for event in found} == {str(row["event_id"]) for row in rows}
    kinds: dict[str, list[str]] = {}
    for event in {event["id"]: event for event in reversed(found)}.values():
        kinds.setdefault(event["subject"], []).insert(0, event["type"].rpartition(".")[2])
    for subject, told in kinds.items():
        if "queued" in told:
            assert told.count("queued") == told.count("started") == 1, (subject, told)
            assert told[0] == "queued", (subject, told)
            assert told[-1] in {"completed", "failed", "cancelled"}, (subject, told)

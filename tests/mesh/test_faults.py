"""What goes wrong in mid course: processes die, runs are called off, heads are swapped."""

import datetime
import json
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from threading import Event

import asyncpg
import httpx
import pytest

from tests.support.chats import Endpoint, endpoint, said
from tests.support.listeners import read_events
from tests.support.mesh import PEOPLE, Json, Mesh, run_async, running_mesh, until
from tests.support.mishaps import end_connections, suffer, wipe_nats
from tests.support.witness import Witness

MANY = 80
"""People whose outcomes take seconds to learn from."""
BUDGET = 500
COOL_DOWN_SECONDS = 6
SECONDS_TO_RECOVER = 15
ENDS = ("succeeded", "failed", "cancelled")


@pytest.fixture(scope="module")
def judge() -> Iterator[Endpoint]:
    """A language model, as the mesh knows it."""
    with endpoint() as server:
        yield server


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory, judge: Endpoint) -> Iterator[Mesh]:
    """A mesh that misses a silent trainer soon, with a domain that takes time to learn from."""
    folder = tmp_path_factory.mktemp("faults")
    settings = {"TRINE_TRIPLETS_BUDGET": "1000000", "TRINE_LEASE_SECONDS": "3"}
    settings |= {"TRINE_JUDGE_URL": f"{judge.url}/v1", "TRINE_JUDGE_MODEL": "wise"}
    with running_mesh(folder, TRINE_JUDGE_SECONDS="0.5", **settings) as running:
        running.fill("long", MANY)
        running.report("long", range(MANY), MANY, likes=by_chance)
        yield running


def by_chance(seeker: int, candidate: int) -> bool:
    """An opinion that nobody can foresee."""
    return zlib.crc32(f"{seeker} {candidate}".encode()) % 2 == 1


def alike(seeker: int, candidate: int) -> bool:
    """An opinion that depends on both: people of one goal like each other."""
    return (seeker + candidate) % 2 == 0


def unlike(seeker: int, candidate: int) -> bool:
    """The opposite opinion."""
    return not alike(seeker, candidate)


def start_run(mesh: Mesh, status: str = "running") -> str:
    """Starts a run of the domain that takes time and waits for a status."""
    answer = mesh.call("POST", "/v1/train", {"domain": "long", "force": True})
    run_id: str = answer["run_id"]
    until(lambda: True if mesh.call("GET", f"/v1/runs/{run_id}")["status"] == status else None)
    return run_id


def ended(mesh: Mesh, run_id: str) -> Json:
    """Waits for a run's end, whatever is away meanwhile."""

    def run() -> Json | None:
        found = mesh.attempt("GET", f"/v1/runs/{run_id}")
        return found if found and found["status"] in ENDS else None

    found: Json = until(run, seconds_max=40)
    return found


def served_head(mesh: Mesh, domain: str) -> str:
    """The head that ranks for a person of the domain."""
    version: str = mesh.match("u1", domain)["models_used"]["embedding"]["version"]
    return version


def until_served(mesh: Mesh, domain: str, version: str, seconds_max: float = 10) -> None:
    """Waits until a head ranks for people of the domain."""
    until(lambda: True if served_head(mesh, domain) == version else None, seconds_max)


def restarts(mesh: Mesh, name: str) -> int:
    """How often a process was started again."""
    told = mesh.home.read_mesh()
    assert told is not None
    count: int = told["restarts"][name]
    return count


async def read_stream(mesh: Mesh) -> list[Json]:
    """All events that a tenant can read at the moment, oldest first."""
    messages = await read_events(mesh.told["nats"], mesh.told["tenant"])
    return [json.loads(message.data) for message in messages]


async def read_outbox(mesh: Mesh) -> dict[str, bool]:
    """Every event that the scheduler ever had to tell: whether it says that it has."""
    connection = await asyncpg.connect(mesh.told["postgres"])
    try:
        rows = await connection.fetch("select event_id, publish_time from scheduler.outbox")
    finally:
        await connection.close()
    return {str(row["event_id"]): row["publish_time"] is not None for row in rows}


def told_of(mesh: Mesh, domain: str, run_id: str) -> list[str]:
    """What was told of a run, once all is told, after checking that nothing was told twice."""
    until(lambda: True if all(run_async(read_outbox(mesh)).values()) else None)
    events = run_async(read_stream(mesh))
    assert sorted(event["id"] for event in events) == sorted(run_async(read_outbox(mesh)))
    return [
        event["type"].removeprefix("trine.events.v1.")
        for event in events
        if run_id in json.dumps(event["data"]) and domain in json.dumps(event["data"])
    ]


def test_a_run_whose_trainer_dies_is_carried_out_by_the_next_one(mesh: Mesh) -> None:
    run_id = start_run(mesh)
    mesh.kill("trainer")
    left = mesh.call("GET", f"/v1/runs/{run_id}")
    assert (left["status"], left["attempt"]) == ("running", 1)
    run = ended(mesh, run_id)
    assert (run["status"], run["attempt"]) == ("succeeded", 2)
    assert run["snapshot_digest"] == left["snapshot_digest"] != ""
    assert told_of(mesh, "long", run_id) == ["run.queued", "run.started", "run.completed"]


def test_a_cancelled_run_ends_and_its_trainer_takes_the_next(mesh: Mesh) -> None:
    before = restarts(mesh, "trainer")
    run_id = start_run(mesh)
    assert mesh.call("POST", f"/v1/runs/{run_id}:cancel", {})["status"] == "cancelled"
    assert mesh.train("long")["status"] == "succeeded"
    assert restarts(mesh, "trainer") == before
    run = mesh.call("GET", f"/v1/runs/{run_id}")
    assert (run["status"], run["head"], run["attempt"]) == ("cancelled", "", 1)
    heads = mesh.call("GET", "/v1/heads", domain="long")["heads"]
    assert run_id not in {head["run_id"] for head in heads}
    assert told_of(mesh, "long", run_id) == ["run.queued", "run.started", "run.cancelled"]


@pytest.mark.parametrize("status", ["queued", "running"])
def test_a_run_outlives_the_scheduler(mesh: Mesh, status: str) -> None:
    run_id = start_run(mesh, status)
    mesh.kill("scheduler")
    assert ended(mesh, run_id)["status"] == "succeeded"
    assert told_of(mesh, "long", run_id) == ["run.queued", "run.started", "run.completed"]


def test_events_wait_for_nats_and_heads_do_not(mesh: Mesh) -> None:
    mesh.fill("silent")
    mesh.report("silent", range(PEOPLE), likes=alike)
    mesh.signal("nats", signal.SIGSTOP)
    run = mesh.train("silent")
    until_served(mesh, "silent", run["head"])
    assert not all(run_async(read_outbox(mesh)).values())
    mesh.kill("nats")
    kinds = ["run.queued", "run.started", "run.completed", "head.promoted"]
    assert told_of(mesh, "silent", run["run_id"]) == kinds


def test_a_judge_decides_last_and_its_failures_cost_the_order_nothing(
    mesh: Mesh, judge: Endpoint
) -> None:
    asked: Json = {"limit": 3, "stages": {"llm_judge": {"top_k": 3}}}
    until(lambda: True if mesh.match("u0", "long", limit=3)["matches"] else None)
    before = [match["user_id"] for match in mesh.match("u0", "long", limit=3)["matches"]]
    judge.answer = (200, said('{"scores": [0.1, 0.9, 0.5]}'))
    answer = mesh.match("u0", "long", **asked)
    assert [match["user_id"] for match in answer["matches"]] == [before[n] for n in (1, 2, 0)]
    assert answer["matches"][0]["stage_scores"]["llm_judge"] == 0.9
    assert answer["models_used"]["llm_judge"]["version"] == "wise"
    _, _, body = judge.asked[-1]
    read = json.loads(body["messages"][1]["content"])
    assert read["seeker"] == {"age": 20, "goal": "fun"}  # neither ids nor texts
    assert len(read["candidates"]) == 3

    def note() -> str:
        answer = mesh.match("u0", "long", **asked)
        assert [match["user_id"] for match in answer["matches"]] == before
        found: str = answer["models_used"]["llm_judge"]["note"]
        return found

    judge.answer = (500, b"secret text")
    assert note() == "answered with the status 500"
    judge.late = True
    started = time.monotonic()
    assert "within 0.5 s" in note()
    assert time.monotonic() - started < 2


def test_rolling_back_returns_to_the_head_before(mesh: Mesh) -> None:
    mesh.fill("fickle")
    mesh.report("fickle", range(PEOPLE), likes=alike)
    first = mesh.train("fickle")
    mesh.report("fickle", range(PEOPLE), likes=unlike, day=18)
    second = mesh.train("fickle")
    assert [run["verdict"]["result"] for run in (first, second)] == ["promoted", "promoted"]
    assert second["verdict"]["incumbent"] == first["head"]
    until_served(mesh, "fickle", second["head"])
    assert {int(m["user_id"][1:]) % 2 for m in mesh.match("u1", "fickle")["matches"]} == {0}

    answer = mesh.call("POST", "/v1/heads:rollBack", {"domain": "fickle"})
    assert (answer["head"], answer["rolled_back_head"]) == (first["head"], second["head"])
    until_served(mesh, "fickle", first["head"], seconds_max=2)
    after = mesh.match("u1", "fickle")
    assert {model["version"] for model in after["models_used"].values()} == {first["head"]}
    assert {int(match["user_id"][1:]) % 2 for match in after["matches"]} == {1}


def ask_on(mesh: Mesh, user_id: str, enough: Event) -> list[str]:
    """Asks for matches without a pause; the head behind each answer, or what went wrong."""
    found: list[str] = []
    with httpx.Client(base_url=mesh.told["rest"], headers=mesh.http.headers, timeout=10) as http:
        while not enough.is_set():
            body = {"user_id": user_id, "domain": "busy"}
            response = http.post("/v1/match", json=body)
            used = response.json().get("models_used", {})
            versions = {model["version"] for model in used.values()}
            stages = {"embedding"} if "all-minilm-l6-v2" in versions else LEARNED_STAGES
            whole = response.status_code == 200 and len(versions) == 1 and set(used) == stages
            found.append(versions.pop() if whole else response.text)
    return found


LEARNED_STAGES = {"light_ml", "embedding", "cross_encoder"}


def test_no_request_fails_or_meets_half_a_head_while_heads_are_swapped(mesh: Mesh) -> None:
    mesh.fill("busy")
    mesh.report("busy", range(PEOPLE))
    enough = Event()
    with ThreadPoolExecutor() as threads:
        asking = [threads.submit(ask_on, mesh, f"u{number}", enough) for number in range(4)]
        try:
            head = mesh.train("busy")["head"]
            until_served(mesh, "busy", head)
            for wanted in ("general", head) * 5:
                mesh.call("POST", "/v1/heads:rollBack", {"domain": "busy", "head": wanted})
                version = "all-minilm-l6-v2" if wanted == "general" else head
                until_served(mesh, "busy", version)
        finally:
            enough.set()
        answers = [future.result() for future in asking]
    for found in answers:
        assert set(found) == {"all-minilm-l6-v2", head}
        assert len(list(groupby(found))) > 2
        assert found[0] == "all-minilm-l6-v2"


def test_feedback_repeated_across_a_crash_counts_once(mesh: Mesh) -> None:
    mesh.fill("again", 4)
    item = {"seeker_id": "u0", "candidate_id": "u1", "outcome": "accepted"}
    others = [{**item, "candidate_id": f"u{n}", "outcome": "rejected"} for n in (2, 3)]
    first = {"domain": "again", "items": [item, *others]}
    key = {"Idempotency-Key": "once"}
    answer = mesh.http.post("/v1/feedback", json=first, headers=key).json()
    assert (answer["accepted"], answer["triplets_generated"]) == (3, 2)
    correction = {"domain": "again", "items": [{**item, "outcome": "rejected"}]}
    assert mesh.call("POST", "/v1/feedback", correction)["triplets_pending_train"] == 0

    mesh.kill("triplets")
    until(lambda: mesh.attempt("POST", "/v1/feedback", correction))
    repeat = mesh.http.post("/v1/feedback", json=first, headers=key)
    assert (repeat.status_code, repeat.json()) == (200, answer)
    assert mesh.call("POST", "/v1/feedback", correction)["triplets_pending_train"] == 0


def test_no_outcome_is_lost_or_counted_twice_while_the_store_dies(mesh: Mesh) -> None:
    mesh.fill("torn", 40)

    def report(seeker: int) -> Json:
        items = [
            {"seeker_id": f"u{seeker}", "candidate_id": f"u{n}", "outcome": outcome}
            for n, outcome in ((38, "accepted"), (39, "rejected"))
        ]
        body = {"domain": "torn", "items": items, "request_id": f"torn-{seeker}"}
        answer: Json = until(lambda: mesh.attempt("POST", "/v1/feedback", body))
        return answer

    with ThreadPoolExecutor(4) as threads:
        reports = [threads.submit(report, seeker) for seeker in range(38)]
        mesh.kill("postgres")
        mesh.kill("triplets")
        answers = [future.result() for future in reports]
    assert [answer["triplets_generated"] for answer in answers] == [1] * 38
    assert sorted(answer["triplets_pending_train"] for answer in answers) == list(range(1, 39))


@pytest.fixture(scope="module")
def witness(mesh: Mesh) -> Witness:
    """Callers who remember what they were told."""
    return Witness(mesh)


@pytest.mark.parametrize("mishap", [end_connections, wipe_nats])
def test_what_was_acknowledged_outlives_what_it_stands_on(
    witness: Witness, mishap: Callable[[Mesh], None]
) -> None:
    outcome = suffer(witness, mishap)
    assert outcome.acknowledged_count > 0
    assert outcome.answered_seconds < SECONDS_TO_RECOVER


def considerations(mesh: Mesh) -> float:
    """How often the scheduler has looked which domain is due."""
    lines = httpx.get(mesh.told["metrics"]["triplets"]).text.splitlines()
    name = "grpc_server_handled_total"
    counts = [line for line in lines if line.startswith(name) and '"ListDomains"' in line]
    return sum(float(line.rpartition(" ")[2]) for line in counts)


def runs_of(mesh: Mesh, domain: str) -> list[Json]:
    """The runs of a domain, newest first."""
    runs: list[Json] = mesh.call("GET", "/v1/runs", domain=domain)["runs"]
    return runs


def test_a_run_starts_by_itself_past_the_budget_once_the_domain_has_cooled_down(
    mesh: Mesh,
) -> None:
    mesh.fill("eager", 30)
    assert mesh.report("eager", range(4), 30)["triplets_pending_train"] == 464
    policy = {"triplets_budget": BUDGET, "cool_down_seconds": COOL_DOWN_SECONDS}
    mesh.call("PUT", "/v1/trainingPolicy", {"domain": "eager", **policy})
    seen = considerations(mesh)
    until(lambda: True if considerations(mesh) >= seen + 2 else None)
    assert runs_of(mesh, "eager") == []

    assert mesh.report("eager", range(4, 5), 30)["triplets_pending_train"] == 584
    (first,) = until(lambda: runs_of(mesh, "eager") or None)
    assert (first["trigger"], first["triplets_used"]) == ("automatic", 584)
    answer = mesh.report("eager", range(5, 10), 30)
    assert answer["triplets_pending_train"] >= BUDGET
    assert mesh.ended(first["run_id"])["status"] == "succeeded"

    second = until(lambda: runs_of(mesh, "eager")[:-1] or None)[0]
    assert (second["trigger"], second["triplets_used"]) == ("automatic", 1160)
    created = [datetime.datetime.fromisoformat(r["create_time"]) for r in (first, second)]
    assert (created[1] - created[0]).total_seconds() >= COOL_DOWN_SECONDS
    assert mesh.ended(second["run_id"])["status"] == "succeeded"
    until(lambda: mesh.report("eager", range(1), 30)["triplets_pending_train"] == 0 or None)

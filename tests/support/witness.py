"""Callers who go on through faults and remember what was acknowledged, and the look back at it.

A call that meets a part that is away is made again, under the same request id, until it is
answered: so every outcome in the database is one that somebody was told of, and none is there
twice.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import asyncpg
import httpx

from services.mesh.verify import verify_mesh
from tests.support.crowd import Caller
from tests.support.listeners import read_events
from tests.support.mesh import Json, Mesh, run_async, until

DOMAIN = "witnessed"
PEOPLE = 100
"""So many that no trial comes to the end of their pairs."""
LEARNED_SEEKERS = 20
"""Whose outcomes are there from the start, so that a run has something to learn."""
CALL_SECONDS_MAX = 4.0
QUIET_SECONDS_MAX = 90.0
_PAUSE_SECONDS = 0.05
_UNTOLD = "select count(*) from scheduler.outbox where publish_time is null"
_TIMES = """
select s.user_id as seeker, c.user_id as candidate, count(*) as times
from triplets.outcomes o join triplets.domains d using (domain_id)
join triplets.users s on s.domain_id = o.domain_id and s.number = o.seeker
join triplets.users c on c.domain_id = o.domain_id and c.number = o.candidate
where d.domain = $1 group by 1, 2
"""


class Witness:
    """The callers of one mesh, who report outcomes and ask for matches."""

    def __init__(self, mesh: Mesh) -> None:
        self.mesh = mesh
        self.runs: list[str] = []
        self.answers_count = 0
        self._pairs = (
            (f"u{seeker}", f"u{candidate}")
            for seeker in range(LEARNED_SEEKERS, PEOPLE)
            for candidate in range(PEOPLE)
            if seeker != candidate
        )
        self._locked = threading.Lock()
        mesh.fill(DOMAIN, PEOPLE)
        mesh.report(DOMAIN, range(LEARNED_SEEKERS), PEOPLE)
        self.acknowledged = [
            (f"u{seeker}", f"u{candidate}")
            for seeker in range(LEARNED_SEEKERS)
            for candidate in range(PEOPLE)
            if seeker != candidate
        ]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Callers without a pause for the length of a block; what they are at is done to its end.

        Raises:
            OverError: somebody was not answered within QUIET_SECONDS_MAX of the block's end.
        """
        enough, deadline = threading.Event(), time.monotonic() + 2 * QUIET_SECONDS_MAX
        with ThreadPoolExecutor() as threads:
            callers = [
                threads.submit(self._go_on, story, enough, deadline)
                for story in (self._report, self._report, self._match)
            ]
            try:
                yield
            finally:
                enough.set()
        for caller in callers:
            caller.result()

    def start_run(self) -> str:
        """Has the mesh train and remembers the run."""
        number = len(self.runs)
        body = {"domain": DOMAIN, "force": True, "request_id": f"run-{number}"}
        run_id: str = self.mesh.call("POST", "/v1/train", body)["run_id"]
        self.runs.append(run_id)
        return run_id

    def until_answered(self) -> None:
        """Waits until an outcome is taken, a match is made and a run is shown."""
        with self._client() as http:
            caller = Caller(http, time.monotonic() + QUIET_SECONDS_MAX)
            self._report(caller)
            self._match(caller)
            caller.insist("GET", f"/v1/runs/{self.runs[-1]}")

    def until_quiet(self) -> None:
        """Waits until the runs have ended and all is told."""
        with self._client() as http:
            caller = Caller(http, time.monotonic() + QUIET_SECONDS_MAX)
            for run_id in self.runs:
                ended = caller.until_status(f"/v1/runs/{run_id}", {"succeeded", "failed"})
                assert ended["status"] == "succeeded", ended
        until(lambda: run_async(self._ask(_UNTOLD)) == 0 or None, QUIET_SECONDS_MAX, 0.1)

    def look_back(self) -> None:
        """Checks the mesh against what it has acknowledged."""
        run_async(self._check_outcomes())
        check_events(run_async(self.read_stream()), run_async(self.read_outbox()))
        self._check_head()
        until(lambda: not self.violated() or None, 20, 0.5)

    def violated(self) -> list[str]:
        """The rules of `trine verify` that do not hold or could not be checked."""
        found = run_async(verify_mesh(self.mesh.home))
        return [f"{one.invariant} {one.rule} {one.reason}" for one in found if one.result != "ok"]

    async def read_stream(self) -> list[Json]:
        """All events of the tenant that NATS keeps, in its order."""
        messages = await read_events(self.mesh.told["nats"], self.mesh.told["tenant"])
        return [json.loads(message.data) for message in messages]

    async def read_outbox(self) -> list[str]:
        """The ids of all events that there ever were, in their order."""
        connection = await asyncpg.connect(self.mesh.told["postgres"])
        try:
            rows = await connection.fetch("select event_id from scheduler.outbox order by id")
        finally:
            await connection.close()
        return [str(row["event_id"]) for row in rows]

    def _client(self) -> httpx.Client:
        told = self.mesh.told
        return httpx.Client(
            base_url=told["rest"], headers=self.mesh.http.headers, timeout=CALL_SECONDS_MAX
        )

    def _go_on(
        self, story: Callable[[Caller], None], enough: threading.Event, deadline: float
    ) -> None:
        with self._client() as http:
            while not enough.is_set():
                story(Caller(http, deadline))
                self.answers_count += 1
                time.sleep(_PAUSE_SECONDS)

    def _report(self, caller: Caller) -> None:
        with self._locked:
            seeker, candidate = next(self._pairs)
        outcome = "accepted" if int(candidate[1:]) % 2 else "rejected"
        item = {"seeker_id": seeker, "candidate_id": candidate, "outcome": outcome}
        body = {"domain": DOMAIN, "items": [item], "request_id": f"{seeker}-{candidate}"}
        assert caller.insist("POST", "/v1/feedback", body)["accepted"] == 1
        self.acknowledged.append((seeker, candidate))

    def _match(self, caller: Caller) -> None:
        caller.insist("POST", "/v1/match", {"user_id": "u1", "domain": DOMAIN})

    async def _ask(self, query: str) -> object:
        try:
            connection = await asyncpg.connect(self.mesh.told["postgres"], timeout=2)
        except (TimeoutError, OSError, asyncpg.PostgresError):
            return None
        try:
            return await connection.fetchval(query)
        finally:
            await connection.close()

    async def _check_outcomes(self) -> None:
        connection = await asyncpg.connect(self.mesh.told["postgres"])
        try:
            rows = await connection.fetch(_TIMES, DOMAIN)
        finally:
            await connection.close()
        times = {(row["seeker"], row["candidate"]): row["times"] for row in rows}
        assert [pair for pair in self.acknowledged if pair not in times] == [], "lost"
        assert {pair: n for pair, n in times.items() if n != 1} == {}, "doubled"
        assert len(times) == len(self.acknowledged), "one that nobody was told of"

    def _check_head(self) -> None:
        """The head that serves is the one that the pointer points at."""
        path = f"/v1/heads?domain={DOMAIN}&page_size=1000"
        heads = until(lambda: self.mesh.attempt("GET", path))["heads"]
        wanted = [head["head"] for head in heads if head["promoted"]] or ["all-minilm-l6-v2"]

        def served() -> bool | None:
            answer = self.mesh.match("u1", DOMAIN)
            return [answer["models_used"]["embedding"]["version"]] == wanted or None

        until(served, 20)


def check_events(events: list[Json], outbox: list[str]) -> None:
    """All is on the stream, once, and what is told of one thing is numbered from 1 on, in order."""
    assert sorted(event["id"] for event in events) == sorted(outbox)
    numbers: dict[str, list[int]] = {}
    for event in events:
        numbers.setdefault(event["subject"], []).append(int(event["sequence"]))
    for subject, found in numbers.items():
        assert found == list(range(1, len(found) + 1)), (subject, found)

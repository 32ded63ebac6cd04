"""Callers of all kinds at once, who do not give up and write down what they were told.

Each kind does one small story again and again through the public API. A call that meets a process
which has just died is made again with the same request id, until it is answered.
"""

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import grpc
import httpx
from trine.triplets.v1 import user_service_pb2, user_service_pb2_grpc

from tests.support.mesh import ENDS, Json, Mesh

DOMAIN = "torn"
TRIED = "tried"
"""A domain whose heads come into use step by step."""
SEEKERS, CANDIDATES = 24, 60
KNOWN = 5
"""Yeses, and as many noes, of each seeker to begin with: enough to learn a head from."""
LINES = b"".join(
    json.dumps(
        {
            "anchor": f"I spend each weekend sailing, week {number}",
            "positive": f"diving is my life {number}",
            "negative": f"hiking is all that I do {number}",
        }
    ).encode()
    + b"\n"
    for number in range(10)
)
_TOO_MANY = 429
_PAUSE_SECONDS = 0.2


@dataclass
class Acknowledged:
    """What the mesh said that it has done."""

    pairs: list[tuple[str, str]] = field(default_factory=list)
    """Seeker and candidate of each outcome."""
    runs: list[str] = field(default_factory=list)
    people: list[str] = field(default_factory=list)
    erased: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=dict)
    jobs: list[str] = field(default_factory=list)


class OverError(Exception):
    """There is no time left."""


class Crowd:
    """The callers of one mesh."""

    def __init__(self, mesh: Mesh, hook: str) -> None:
        self._mesh = mesh
        self.told = Acknowledged()
        self._enough = threading.Event()
        self._deadline = 0.0
        self._number = 0
        self._reported = 0
        self._tuned = 0
        self._locked = threading.Lock()
        mesh.fill(DOMAIN, SEEKERS + CANDIDATES)
        known = [item for _ in range(SEEKERS * KNOWN) for item in self._items()]
        mesh.call("POST", "/v1/feedback", {"domain": DOMAIN, "items": known})
        self._note(known)
        mesh.fill(TRIED)
        mesh.report(TRIED, range(20))
        mesh.call("PUT", "/v1/rolloutPolicy", {"domain": TRIED, "shadow": {"share": 1}})
        kinds = [f"fine_tuning.job.{end}" for end in ("succeeded", "failed", "cancelled")]
        body = {"name": "crowd", "url": hook, "event_types": kinds}
        self._hook = (
            f"/v1/webhook_endpoints/{mesh.call('POST', '/v1/webhook_endpoints', body)['id']}"
        )

    @contextmanager
    def at_work(self, seconds_max: float) -> Iterator[None]:
        """All callers, for as long as the block lasts; what they are at then is done to its end.

        Raises:
            OverError: somebody was not answered in time.
        """
        self._enough.clear()
        self._deadline = time.monotonic() + seconds_max
        stories = (
            *(self._report, self._match, self._people, self._import),
            *(self._train, self._try, self._tune, self._upload, self._replay),
        )
        with ThreadPoolExecutor(len(stories)) as threads:
            callers = [threads.submit(self._tell, story) for story in stories]
            try:
                yield
            finally:
                self._enough.set()
        for caller in callers:
            caller.result()

    def _tell(self, story: Callable[["Caller"], None]) -> None:
        told = self._mesh.told
        with httpx.Client(
            base_url=told["rest"], headers=self._mesh.http.headers, timeout=30
        ) as http:
            while not self._enough.is_set():
                story(Caller(http, self._deadline))
                time.sleep(_PAUSE_SECONDS)

    def _next(self) -> int:
        with self._locked:
            self._number += 1
            return self._number

    def _report(self, caller: "Caller") -> None:
        """Two outcomes of one seeker about people of whom nobody else has told them."""
        if self._reported >= SEEKERS * CANDIDATES // 2:
            return
        items = self._items()
        body = {"domain": DOMAIN, "items": items, "request_id": f"report-{self._reported}"}
        assert caller.insist("POST", "/v1/feedback", body)["accepted"] == len(items)
        self._note(items)

    def _items(self) -> list[Json]:
        """A no and a yes of the seeker whose turn it is."""
        place, seeker = divmod(self._reported, SEEKERS)
        self._reported += 1
        return [
            {
                "seeker_id": f"u{seeker}",
                "candidate_id": f"u{SEEKERS + 2 * place + side}",
                "outcome": outcome,
            }
            for side, outcome in enumerate(("rejected", "accepted"))
        ]

    def _note(self, items: list[Json]) -> None:
        self.told.pairs += [(item["seeker_id"], item["candidate_id"]) for item in items]

    def _match(self, caller: "Caller") -> None:
        caller.insist("POST", "/v1/match", {"user_id": "u1", "domain": DOMAIN})

    def _people(self, caller: "Caller") -> None:
        """One comes and stays, one comes and goes."""
        number = self._next()
        for prefix in ("stays", "goes"):
            user_id = f"{prefix}{number}"
            body = {"user_id": user_id, "domain": DOMAIN}
            person = {**body, "fields": {"age": 30, "goal": "fun"}}
            caller.insist("POST", "/v1/users", {**person, "request_id": f"{user_id}-made"})
            words = {"source": "chat", "content": "I sail.", "request_id": f"{user_id}-said"}
            caller.insist("POST", "/v1/context", {**body, **words})
        self.told.people.append(f"stays{number}")
        if self.told.runs:  # somebody has learned from whoever goes
            time.sleep(_PAUSE_SECONDS)
        path = f"/v1/users/goes{number}?domain={DOMAIN}&request_id=goes{number}-erased"
        caller.insist("DELETE", path)
        self.told.erased.append(f"goes{number}")

    def _import(self, caller: "Caller") -> None:
        """A stream of one batch; a repeat replaces the same people."""
        people = [f"flock{self._next()}" for _ in range(3)]
        rows = [user_service_pb2.ImportUsersRequest.Row(user_id=user_id) for user_id in people]
        for row in rows:
            row.fields.update({"age": 30})
        request = user_service_pb2.ImportUsersRequest(domain=DOMAIN, users=rows)
        metadata = (("authorization", str(self._mesh.http.headers["authorization"])),)
        while True:
            with grpc.insecure_channel(self._mesh.told["grpc"]) as channel:
                stub: Any = user_service_pb2_grpc.UserServiceStub(cast("Any", channel))
                try:
                    answer = stub.ImportUsers(iter([request]), metadata=metadata, timeout=10)
                except grpc.RpcError as error:
                    caller.again(str(error))
                    continue
            assert answer.imported == len(people)
            self.told.people += people
            return

    def _train(self, caller: "Caller") -> None:
        """A run to its end, and the pointer moved back and forth."""
        run = self._run(caller, DOMAIN)
        if run is None:
            return
        promoted = run.get("verdict", {}).get("result") == "promoted"
        # After one that was not: so that the next has a head to beat that it can.
        for head in ("general", run["head"]) if promoted else ("general",):
            body = {"domain": DOMAIN, "head": head}
            caller.insist("POST", "/v1/heads:rollBack", body, refusals=(400, 409))

    def _try(self, caller: "Caller") -> None:
        """A run that is paused and goes on, and whose head begins to come into use in vain."""
        run = self._run(caller, TRIED, paused=True)
        rollout_id = (run or {}).get("verdict", {}).get("rollout_id")
        if rollout_id:
            caller.insist("POST", f"/v1/rollouts/{rollout_id}:abort", {}, refusals=(400, 409))

    def _run(self, caller: "Caller", domain: str, *, paused: bool = False) -> Json | None:
        number = self._next()
        body = {"domain": domain, "force": True, "request_id": f"train-{number}"}
        answer = caller.insist("POST", "/v1/train", body, refusals=(400, 409))
        if "run_id" not in answer:
            return None  # there is nothing to learn from yet
        self.told.runs.append(answer["run_id"])
        path = f"/v1/runs/{answer['run_id']}"
        if paused:
            caller.until_status(path, {"running", *ENDS})
            caller.insist("POST", f"{path}:pause", {}, refusals=(400, 409))
            if caller.until_status(path, {"paused", *ENDS})["status"] == "paused":
                caller.insist("POST", f"{path}:resume", {}, refusals=(400, 409))
        return caller.until_status(path, ENDS)

    def _tune(self, caller: "Caller") -> None:
        """A file and a job of it, sound and broken in turn; the model is asked at once."""
        number = self._next()
        self._tuned += 1
        sound = self._tuned % 2 == 1
        content = LINES + json.dumps({"mark": number}).encode() * (not sound)
        file_id = self._send(caller, content)
        body = {
            "model": "trine-general",
            "training_file": file_id,
            "suffix": f"n{number}",
            "hyperparameters": {"n_epochs": 2},
        }
        job = caller.insist("POST", "/v1/fine_tuning/jobs", body)
        self.told.jobs.append(job["id"])
        ended = caller.until_status(f"/v1/fine_tuning/jobs/{job['id']}", ENDS)
        assert (ended["status"] == "succeeded") >= (sound and ended["error"] is None)
        if ended["status"] == "succeeded":
            (result,) = ended["result_files"]
            self.told.files[result] = caller.read_file(result)
            model = {"model": ended["fine_tuned_model"], "input": "I like sailing"}
            caller.insist("POST", "/v1/embeddings", model)

    def _upload(self, caller: "Caller") -> None:
        """A file in two parts."""
        number = self._next()
        halves = [f"half {number}.{side}\n".encode() for side in (0, 1)]
        wish = {
            "filename": f"f{number}.jsonl",
            "purpose": "fine-tune",
            "mime_type": "text/jsonl",
            "bytes": sum(map(len, halves)),
        }
        upload = caller.insist("POST", "/v1/uploads", wish)
        path = f"/v1/uploads/{upload['id']}"
        parts = [
            caller.insist("POST", f"{path}/parts", files={"data": ("part", half)})["id"]
            for half in halves
        ]
        done = caller.insist("POST", f"{path}/complete", {"part_ids": parts})
        self.told.files[done["file"]["id"]] = b"".join(halves)

    def _replay(self, caller: "Caller") -> None:
        """Somebody wants to hear the last event again."""
        for delivery in caller.insist("GET", f"{self._hook}/deliveries?limit=1")["data"]:
            caller.insist("POST", f"{self._hook}/deliveries/{delivery['id']}/replay", {})
        time.sleep(1)

    def _send(self, caller: "Caller", content: bytes) -> str:
        files = {"file": ("train.jsonl", content), "purpose": (None, b"fine-tune")}
        file_id: str = caller.insist("POST", "/v1/files", files=files)["id"]
        self.told.files[file_id] = content
        return file_id


class Caller:
    """One thread's client."""

    def __init__(self, http: httpx.Client, deadline: float) -> None:
        self._http = http
        self._deadline = deadline

    def insist(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        files: object = None,
        refusals: tuple[int, ...] = (),
    ) -> Json:
        """Calls until the mesh answers; anything but 200 and expected refusals fails the test."""
        while True:
            try:
                response = self._http.request(method, path, json=body, files=files)  # type: ignore[arg-type]
            except httpx.TransportError as error:
                self.again(repr(error))
                continue
            if response.status_code < 500 and response.status_code != _TOO_MANY:
                break
            self.again(response.text)
        known = response.status_code == 200 or response.status_code in refusals
        assert known, f"{method} {path}: {response.status_code} {response.text}"
        content: Json = response.json()
        return content

    def until_status(self, path: str, wanted: set[str]) -> Json:
        """Waits until a run or job is in one of these states."""
        while (found := self.insist("GET", path))["status"] not in wanted:
            self.again(f"{path} is {found['status']}")
        return found

    def read_file(self, file_id: str) -> bytes:
        """Returns a file's bytes."""
        while True:
            try:
                response = self._http.get(f"/v1/files/{file_id}/content")
            except httpx.TransportError as error:
                self.again(repr(error))
                continue
            if response.status_code == 200:
                return response.content
            assert response.status_code >= 500, response.text
            self.again(response.text)

    def again(self, reason: str) -> None:
        """Waits a moment.

        Raises:
            OverError: there is no time left.
        """
        if time.monotonic() > self._deadline:
            raise OverError(reason)
        time.sleep(_PAUSE_SECONDS)

"""The trainer's ports in memory: a scheduler that remembers, a store, and a learner by script."""

import asyncio
import hashlib
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from services.trainer.core.errors import LeaseLostError
from services.trainer.core.ports import (
    BaseModel,
    Column,
    Directive,
    Evaluation,
    FileOutcome,
    HeadFiles,
    LearnedHead,
    LeasedRun,
    TwinFiles,
)
from services.trainer.core.watch import FileDataset, LossPoint, ModelFiles, Report, Watch

WAIT_SECONDS_MAX = 5.0
SNAPSHOT = b"a snapshot"


def leased(**changes: Any) -> LeasedRun:
    """A run whose lease is extended every few milliseconds."""
    content: dict[str, Any] = {
        "tenant": "acme",
        "domain": "dating",
        "run_id": "tr_2026_05_17_001",
        "token": 3,
        "lease_seconds": 0.03,
        "revision": 7,
        "snapshot_digest": "",
        "checkpoint_digest": "",
        "incumbent": "",
        "incumbent_manifest_digest": "",
        "head": "u_acme.dating.2026-05-17.001",
        "seed": 11,
        "tier": "tenant",
        "prior": "",
        "prior_manifest_digest": "",
    }
    return LeasedRun(**(content | changes))


def files(mark: bytes = b"new") -> HeadFiles:
    """A head's files."""
    return HeadFiles(
        query_map=mark + b" query map",
        person=mark + b" person",
        light=mark + b" light",
        cross=mark + b" cross",
        table=mark + b" table",
        encoder="test",
        dim=8,
        columns=(Column(name="age", type="integer", members=()),),
        twins=(TwinFiles(mark + b" twin's person", mark + b" twin's cross", 2),),
    )


LEARNED = LearnedHead(
    files=files(),
    golden=b"golden",
    recipe={"seed": 11},
    rule_version="1",
    outcomes_count=2,
    twins_agreement=1.0,
    evaluation=Evaluation(
        seekers=np.zeros(2, np.int32),
        levels=np.array([0, 2], np.int32),
        challenger_scores=np.array([0.1, 0.9], np.float32),
        incumbent_scores=np.array([0.5, 0.5], np.float32),
        incumbent_calibrated=False,
    ),
)


def point(step: int) -> LossPoint:
    """One evaluation."""
    return LossPoint("cross_encoder", step, 1 / step, 0.5)


class MemoryScheduler:
    """Remembers what it is told, and answers as a test wants it to."""

    def __init__(self, *queued: LeasedRun) -> None:
        self.queued = list(queued)
        self.reports: list[Report] = []
        """Those that it accepted."""
        self.asked = 0
        """Heartbeats that came, accepted or not."""
        self.completed: list[tuple[str, Evaluation]] = []
        self.outcomes: list[FileOutcome | None] = []
        """What was handed over beside each of them."""
        self.failures: list[tuple[str, str, bool]] = []
        self.directive = Directive.CONTINUE
        self.released = 0
        self.trouble: list[Exception] = []
        """What the next heartbeats raise."""
        self.lease_lost = False
        self._changed = threading.Condition()

    async def lease(self, trainer: str) -> LeasedRun | None:
        return self.queued.pop(0) if self.queued else None

    async def heartbeat(self, run: LeasedRun, report: Report) -> Directive:
        with self._changed:
            self.asked += 1
            self._changed.notify_all()
            self._check()
            if self.trouble:
                raise self.trouble.pop(0)
            self.reports.append(report)
        return self.directive

    async def complete(
        self,
        run: LeasedRun,
        manifest_digest: str,
        evaluation: Evaluation,
        outcome: FileOutcome | None = None,
    ) -> str:
        self._check()
        self.outcomes.append(outcome)
        self.completed.append((manifest_digest, evaluation))
        return "promoted"

    async def release(self, run: LeasedRun) -> None:
        self._check()
        self.released += 1

    async def fail(self, run: LeasedRun, reason: str, message: str, *, retriable: bool) -> None:
        self._check()
        self.failures.append((reason, message, retriable))

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Lets the thread that learns wait for what heartbeats bring about."""
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_SECONDS_MAX), "no heartbeat said so"

    def wait_for_beats(self, count: int = 2) -> None:
        """Lets the thread that learns wait; all that came of the first of two beats is done."""
        wanted = self.asked + count
        self.wait_until(lambda: self.asked >= wanted)

    @property
    def points(self) -> list[LossPoint]:
        """The loss curve."""
        return [p for report in self.reports for p in report.loss_points]

    def _check(self) -> None:
        if self.lease_lost:
            raise LeaseLostError


DATASET = FileDataset(
    training_lines_count=9,
    validation_lines_count=0,
    held_out_lines_count=0,
    items_count=20,
    tokens_count=100,
    method="triplet",
)
MODEL = ModelFiles(query_map=b"map", golden=b"golden", encoder="test", dim=8, columns=())


class MemorySnapshots:
    """Freezes every domain into the same bytes, unless it is to wait."""

    def __init__(self, store: "MemoryHeads") -> None:
        self._store = store
        self.created: list[int] = []
        """Revisions."""
        self.trouble: list[Exception] = []
        """What the next snapshots of files raise."""
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def create_from_files(self, run: LeasedRun) -> tuple[str, FileDataset]:
        if self.trouble:
            raise self.trouble.pop(0)
        return await self.create(run), DATASET

    async def create(self, run: LeasedRun) -> str:
        self.created.append(run.revision)
        await self.go_on.wait()
        return await self._store.write(SNAPSHOT)


@dataclass
class MemoryHeads:
    """Artifacts in a dictionary, heads beside them."""

    contents: dict[str, bytes] = field(default_factory=dict)
    heads: dict[str, HeadFiles] = field(default_factory=dict)
    written: list[tuple[str, str, LearnedHead]] = field(default_factory=list)
    """Head, snapshot and content of each head that was stored."""
    bases: dict[str, BaseModel] = field(default_factory=dict)
    models: dict[str, tuple[str, ModelFiles]] = field(default_factory=dict)
    """Snapshot and files of each model that was stored, by name."""
    trouble: list[Exception] = field(default_factory=list)
    """What the next writes raise."""

    async def read(self, digest: str) -> bytes:
        return self.contents[digest]

    async def read_checkpoint(self, digest: str) -> bytes | None:
        return self.contents.get(digest)

    async def write(self, content: bytes) -> str:
        if self.trouble:
            raise self.trouble.pop(0)
        digest = hashlib.sha256(content).hexdigest()
        self.contents[digest] = content
        return digest

    async def read_head(self, manifest_digest: str) -> HeadFiles:
        return self.heads[manifest_digest]

    async def read_base(self, manifest_digest: str) -> BaseModel:
        return self.bases[manifest_digest]

    async def write_model(
        self,
        run: LeasedRun,
        name: str,
        snapshot_digest: str,
        files: ModelFiles,
        *,
        recipe: Mapping[str, object],
    ) -> str:
        if self.trouble:
            raise self.trouble.pop(0)
        self.models[name] = (snapshot_digest, files)
        return hashlib.sha256(name.encode()).hexdigest()

    async def write_head(self, run: LeasedRun, snapshot_digest: str, head: LearnedHead) -> str:
        self.written.append((run.head, snapshot_digest, head))
        return "f" * 64


Script = Callable[[Watch], None]


class ScriptedLearner:
    """Does what the script says, in the thread that it is called in, and gives a head."""

    def __init__(self, script: Script = lambda _: None) -> None:
        self._script = script
        self.given: list[tuple[bytes, HeadFiles | None, bytes | None, int]] = []
        self.priors: list[tuple[HeadFiles | None, bool]] = []

    def learn(
        self,
        snapshot: bytes,
        incumbent: HeadFiles | None,
        checkpoint: bytes | None,
        seed: int,
        watch: Watch,
        *,
        prior: HeadFiles | None = None,
        knows_people: bool = True,
    ) -> LearnedHead:
        self.priors.append((prior, knows_people))
        self.given.append((snapshot, incumbent, checkpoint, seed))
        self._script(watch)
        return LEARNED

"""The scheduler's store in dictionaries, with a clock that a test may move."""

import asyncio
import dataclasses
import datetime
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from services.chassis.copies import copy_changeable
from services.chassis.replies import MemoryReplies
from services.scheduler.core.errors import RunActiveError
from services.scheduler.core.estimate import PastRun
from services.scheduler.core.file_source import Checkpoint, FileResult
from services.scheduler.core.head import SHARED, Ancestor, Head, LearnedHead, PromotedHead
from services.scheduler.core.matching_policy import MatchingPolicy
from services.scheduler.core.ports import (
    Clock,
    HeadEventKind,
    Heartbeat,
    RunEventKind,
    SchedulerUnit,
)
from services.scheduler.core.run import (
    ACTIVE,
    LEASED,
    MOVES,
    Failure,
    Job,
    Run,
    State,
    attempt_after,
    run_id_of,
)
from services.scheduler.core.run_events import Move, RunHistory
from services.scheduler.core.training_policy import PolicyChoice
from services.scheduler.core.verdict import Verdict
from services.scheduler.rollout_memory import (
    MemoryRollouts,
    MemoryRolloutUnit,
    RolloutState,
    after_name,
    promoted,
)

RunKey = tuple[str, str]
DomainKey = tuple[str, str]


@dataclass
class _State:
    runs: dict[RunKey, Run] = field(default_factory=dict)
    """In the order of their creation."""
    paused: set[RunKey] = field(default_factory=set)
    """Runs that have ever been paused."""
    expiries: dict[RunKey, datetime.datetime] = field(default_factory=dict)
    moves: dict[RunKey, tuple[Move, ...]] = field(default_factory=dict)
    evaluation_times: dict[tuple[RunKey, int], datetime.datetime] = field(default_factory=dict)
    """By run and step."""
    dataset_times: dict[RunKey, datetime.datetime] = field(default_factory=dict)
    checkpoints: dict[RunKey, dict[int, Checkpoint]] = field(default_factory=dict)
    """By run and step."""
    heads: dict[tuple[str, str], Head] = field(default_factory=dict)
    pointers: dict[DomainKey, str] = field(default_factory=dict)
    pinned: set[DomainKey] = field(default_factory=set)
    promotions: list[tuple[DomainKey, str, str]] = field(default_factory=list)
    policies: dict[DomainKey, PolicyChoice] = field(default_factory=dict)
    matching_policies: dict[DomainKey, MatchingPolicy] = field(default_factory=dict)
    token: int = 0
    events: list[tuple[str, object]] = field(default_factory=list)
    replies: MemoryReplies = field(default_factory=MemoryReplies)
    rollouts: RolloutState = field(default_factory=RolloutState)


class MemorySchedulerStore(MemoryRollouts):
    """The scheduler's store of a test."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._state = _State()
        self._told: set[RunKey] = set()
        self._lock = asyncio.Lock()

    @property
    def _rollouts(self) -> RolloutState:
        return self._state.rollouts

    @property
    def events(self) -> list[tuple[str, object]]:
        """What was emitted, such as ("run.queued", the run)."""
        return self._state.events

    @asynccontextmanager
    async def begin(self, tenant: str) -> AsyncIterator[SchedulerUnit]:  # noqa: ARG002  # as asked
        """Opens a unit."""
        async with self._lock:
            # A unit works on a copy, so that a failure leaves nothing half done.
            state = copy_changeable(self._state)
            yield MemorySchedulerUnit(state, self._clock)
            self._state = state

    async def read_run(self, tenant: str, run_id: str) -> Run | None:
        """Returns a run with its loss curve."""
        return self._state.runs.get((tenant, run_id))

    async def read_runs(self, tenant: str, run_ids: Collection[str]) -> list[Run]:
        """Returns runs."""
        found = [self._state.runs.get((tenant, run_id)) for run_id in set(run_ids)]
        return [dataclasses.replace(run, loss_curve=()) for run in found if run is not None]

    async def list_runs(
        self, tenant: str, domain: str, before: str, limit: int, *, from_files: bool = False
    ) -> list[Run]:
        """Returns runs, newest first."""
        runs = [run for run in reversed(self._runs()) if run.job.tenant == tenant]
        older = after_name(runs, [run.run_id for run in runs], before)
        wanted = [
            run
            for run in older
            if domain in ("", run.job.domain) and (run.job.files is not None or not from_files)
        ]
        return [dataclasses.replace(run, loss_curve=()) for run in wanted[:limit]]

    async def read_history(self, tenant: str, run_id: str) -> RunHistory:
        """Returns when what happened in a run."""
        key, state = (tenant, run_id), self._state
        return RunHistory(
            moves=state.moves[key],
            evaluations=tuple(
                (point, state.evaluation_times[key, point.step])
                for point in state.runs[key].loss_curve
            ),
            dataset_time=state.dataset_times.get(key),
        )

    async def list_checkpoints(self, tenant: str, run_id: str) -> list[Checkpoint]:
        """Returns a run's checkpoints, newest first."""
        found = self._state.checkpoints.get((tenant, run_id), {})
        return [found[step] for step in sorted(found, reverse=True)]

    async def list_in_use(self, tenant: str) -> list[Head]:
        """Returns the heads in use of a tenant."""
        in_use = sorted(item for item in self._state.pointers.items() if item[0][0] == tenant)
        return [
            dataclasses.replace(self._state.heads[tenant, head], promoted=True)
            for _, head in in_use
            if head
        ]

    async def list_heads(self, tenant: str, domain: str, before: str, limit: int) -> list[Head]:
        """Returns heads, newest first."""
        heads = [h for h in self._state.heads.values() if (h.tenant, h.domain) == (tenant, domain)]
        in_use = self._state.pointers.get((tenant, domain))
        heads = [dataclasses.replace(h, promoted=h.head == in_use) for h in reversed(heads)]
        return after_name(heads, [head.head for head in heads], before)[:limit]

    async def list_heads_of(
        self, tenant: str, snapshots: Sequence[tuple[str, str]], before: str, limit: int
    ) -> list[LearnedHead]:
        """Returns the heads that learned from any of these snapshots, newest first."""
        found: list[LearnedHead] = []
        for head in reversed(list(self._state.heads.values())):
            digest = self._state.runs[head.tenant, head.run_id].snapshot_digest
            if head.tenant in (tenant, SHARED) and (head.domain, digest) in snapshots:
                promoted = self._state.pointers.get((head.tenant, head.domain)) == head.head
                found.append(LearnedHead(dataclasses.replace(head, promoted=promoted), digest))
        return after_name(found, [one.head.head for one in found], before)[:limit]

    async def read_head(self, tenant: str, head: str) -> Head | None:
        """Returns a head of whichever domain."""
        found = self._state.heads.get((tenant, head))
        if found is None:
            return None
        promoted = self._state.pointers.get((tenant, found.domain)) == head
        return dataclasses.replace(found, promoted=promoted)

    async def ancestors(self, tenant: str, head: str, limit: int) -> list[Ancestor]:
        """Returns the parents of a head."""
        found: list[Ancestor] = []
        at = self._state.heads.get((tenant, head))
        while at is not None and at.parent and len(found) < limit:
            heads = self._state.heads
            at = heads.get((tenant, at.parent)) or heads[SHARED, at.parent]
            run = self._state.runs[at.tenant, at.run_id]
            found.append(
                Ancestor(
                    head=at.head,
                    run_id=at.run_id,
                    parent=at.parent,
                    snapshot_digest=run.snapshot_digest,
                    triplets_count=run.job.triplets_count,
                    result=at.verdict.result,
                    create_time=at.create_time,
                    tier=at.tier,
                )
            )
        return found

    async def head_in_use(self, tenant: str, domain: str) -> Head | None:
        """Returns the head in use."""
        name = self._state.pointers.get((tenant, domain), "")
        return await self.read_head(tenant, name) if name else None

    async def pinned_head(self, tenant: str, domain: str) -> str | None:
        """Returns the head that the pointer is pinned to."""
        key = (tenant, domain)
        return self._state.pointers.get(key, "") if key in self._state.pinned else None

    async def list_promoted(self, after: tuple[str, str], limit: int) -> list[PromotedHead]:
        """Returns what is in use by (tenant, domain)."""
        found = []
        known = (self._state.pointers, self._state.matching_policies, self._rollouts.policies)
        for tenant, domain in sorted({key for keys in known for key in keys}):
            head = await self.head_in_use(tenant, domain)
            policy = await self.read_matching_policy(tenant, domain)
            challenger = self._rollouts.challenger(tenant, domain, self._state.heads)
            if (tenant, domain) > after and (head or challenger or policy.exploration):
                found.append(promoted((tenant, domain), head, policy.exploration, challenger))
        return found[:limit]

    async def last_run_time(self, tenant: str, domain: str) -> datetime.datetime | None:
        """Returns when the domain's newest run was created."""
        key = (tenant, domain)
        times = [r.create_time for r in self._runs() if (r.job.tenant, r.job.domain) == key]
        return max(times, default=None)

    async def active_run(self, tenant: str, domain: str) -> Run | None:
        """Returns the domain's run that has not ended."""
        run = _active_run(self._state, tenant, domain)
        return None if run is None else dataclasses.replace(run, loss_curve=())

    async def read_policy(self, tenant: str, domain: str) -> PolicyChoice:
        """Returns what the tenant chose for the domain."""
        return self._state.policies.get((tenant, domain), PolicyChoice())

    async def list_policies(self) -> dict[DomainKey, PolicyChoice]:
        """Returns all choices."""
        return dict(self._state.policies)

    async def read_matching_policy(self, tenant: str, domain: str) -> MatchingPolicy:
        """Returns how a domain's matches are made."""
        return self._state.matching_policies.get((tenant, domain), MatchingPolicy())

    async def past_runs(self, limit: int) -> list[PastRun]:
        """Returns what the newest successful runs took."""
        past = [
            PastRun(run.job.triplets_count, (run.end_time - run.start_time).total_seconds())
            for key, run in self._state.runs.items()
            if run.state is State.SUCCEEDED and run.attempt == 1 and key not in self._state.paused
            if run.job.domain and run.end_time and run.start_time
        ]
        return past[::-1][:limit]

    async def snapshots_in_use(self) -> set[str]:
        """Returns the snapshots of active runs."""
        runs = [run for run in self._runs() if run.state in ACTIVE]
        return {r.snapshot_digest for r in runs if r.snapshot_digest or r.state in LEASED}

    async def queued_count(self) -> int:
        """Returns how many runs wait for a trainer."""
        return sum(run.state is State.QUEUED for run in self._runs())

    async def untold_runs(self, limit: int) -> list[Run]:
        """Returns successful runs that the triplet store has not been told of."""
        untold = [
            run
            for key, run in self._state.runs.items()
            if run.state in {State.SUCCEEDED, State.STOPPED} and key not in self._told
            if run.job.domain
        ]
        return untold[:limit]

    async def mark_told(self, run: Run) -> None:
        """Notes that the triplet store knows of a run."""
        self._told.add((run.job.tenant, run.run_id))

    def _runs(self) -> list[Run]:
        return list(self._state.runs.values())


class MemorySchedulerUnit(MemoryRolloutUnit, MemoryReplies):
    """A copy of everything, to be kept if the unit ends well."""

    def __init__(self, state: _State, clock: Clock) -> None:
        super().__init__(state.rollouts, state.events)
        self._replies = state.replies._replies  # noqa: SLF001  # the store's own, as copied
        self._state = state
        self._clock = clock

    async def add_run(self, job: Job) -> Run:
        """Queues a run for a job."""
        active = _active_run(self._state, job.tenant, job.domain)
        if active is not None and job.domain:
            raise RunActiveError(job.domain, active.run_id, active.state)
        now = self._clock.now()
        today = [
            run
            for run in self._state.runs.values()
            if run.job.tenant == job.tenant and run.create_time.date() == now.date()
        ]
        run_id = run_id_of(now.date(), len(today) + 1)
        run = Run(job=job, run_id=run_id, state=State.QUEUED, create_time=now)
        self._move(run)
        return run

    async def lock_file_runs(self, tenant: str) -> int:
        """Counts a tenant's active runs from files."""
        runs = self._state.runs.values()
        return sum(r.job.tenant == tenant and bool(r.job.files) and r.state in ACTIVE for r in runs)

    async def find_file_run(self, tenant: str, model: str) -> Run | None:
        """Returns the run that makes a model."""
        for run in self._state.runs.values():
            if run.job.files is not None and (run.job.tenant, run.job.model) == (tenant, model):
                return dataclasses.replace(run, loss_curve=())
        return None

    async def lock_run(self, tenant: str, run_id: str) -> Run | None:
        """Returns a run."""
        return self._state.runs.get((tenant, run_id))

    async def lock_queued_run(self) -> Run | None:
        """Returns the oldest queued run."""
        return next((r for r in self._state.runs.values() if r.state is State.QUEUED), None)

    async def lock_expired_runs(self) -> list[Run]:
        """Returns leased runs whose lease has ended."""
        expiries, now = self._state.expiries.items(), self._clock.now()
        return [self._state.runs[key] for key, end in expiries if end < now]

    async def start_lease(
        self,
        run: Run,
        trainer: str,  # noqa: ARG002
        seconds: float,
        incumbent: str,
        prior: str = "",
    ) -> Run:
        """Moves a run to STARTING under a new, larger token."""
        assert State.STARTING in MOVES[run.state]
        self._state.token += 1
        leased = dataclasses.replace(
            run,
            state=State.STARTING,
            attempt=max(run.attempt, 1),
            token=self._state.token,
            incumbent=incumbent,
            prior=prior,
            start_time=run.start_time or self._clock.now(),
        )
        self._move(leased)
        self._expire_in(leased, seconds)
        return leased

    async def extend_lease(self, run: Run, seconds: float, heartbeat: Heartbeat) -> None:
        """Moves the lease's end and keeps what the trainer reported."""
        self._expire_in(run, seconds)
        curve = {point.step: point for point in (*run.loss_curve, *heartbeat.loss_points)}
        extended = dataclasses.replace(
            run,
            steps_done_count=heartbeat.steps_done_count,
            steps_count=heartbeat.steps_count,
            snapshot_digest=heartbeat.snapshot_digest or run.snapshot_digest,
            checkpoint_digest=heartbeat.checkpoint_digest or run.checkpoint_digest,
            loss_curve=tuple(curve[step] for step in sorted(curve)),
            dataset=heartbeat.dataset or run.dataset,
        )
        self._save(extended)
        self._note_times(extended, heartbeat)

    async def move_run(
        self,
        run: Run,
        state: State,
        *,
        failure: Failure | None = None,
        verdict: Verdict | None = None,
        head: str = "",
        result: FileResult | None = None,
    ) -> Run:
        """Moves a run to another state."""
        assert state in MOVES[run.state], f"{run.state} → {state}"
        moved = dataclasses.replace(
            run,
            state=state,
            attempt=attempt_after(run, state),
            failure=failure,
            verdict=verdict,
            head=head,
            result=result,
            end_time=None if state in ACTIVE else self._clock.now(),
        )
        self._move(moved)
        key = (run.job.tenant, run.run_id)
        if state not in LEASED:
            self._state.expiries.pop(key, None)
        if state is State.PAUSED:
            self._state.paused.add(key)
        return moved

    async def request_stop(self, run: Run) -> Run:
        """Notes that a run shall end with what it has learned."""
        self._save(asked := dataclasses.replace(run, stop_requested=True))
        return asked

    async def add_head(self, head: Head) -> None:
        """Keeps a new head."""
        self._state.heads[head.tenant, head.head] = head

    async def lock_pointer(self, tenant: str, domain: str) -> Head | None:
        """Returns the head in use."""
        name = self._state.pointers.get((tenant, domain), "")
        return await self.find_head(tenant, domain, name) if name else None

    async def move_pointer(
        self,
        tenant: str,
        domain: str,
        head: str,
        previous: str,
        reason: str,  # noqa: ARG002
    ) -> None:
        """Puts a head in use."""
        self._state.pointers[tenant, domain] = head
        self._state.promotions.append(((tenant, domain), head, previous))

    async def is_pinned(self, tenant: str, domain: str) -> bool:
        """Says whether the pointer is pinned."""
        return (tenant, domain) in self._state.pinned

    async def set_pinned(self, tenant: str, domain: str, *, pinned: bool) -> None:
        """Pins the pointer where it points, or unpins it."""
        change = self._state.pinned.add if pinned else self._state.pinned.discard
        change((tenant, domain))

    async def was_in_use(self, tenant: str, domain: str, head: str) -> bool:
        """Says whether the pointer has ever pointed at the head."""
        return any(move[:2] == ((tenant, domain), head) for move in self._state.promotions)

    async def find_head(self, tenant: str, domain: str, head: str) -> Head | None:
        """Returns a head."""
        found = self._state.heads.get((tenant, head))
        if found is None or found.domain != domain:
            return None
        promoted = self._state.pointers.get((tenant, domain)) == head
        return dataclasses.replace(found, promoted=promoted)

    async def delete_head(self, tenant: str, head: str) -> None:
        """Takes a model out of use for good."""
        found = self._state.heads[tenant, head]
        self._state.heads[tenant, head] = dataclasses.replace(found, deleted=True)

    async def save_policy(self, tenant: str, domain: str, choice: PolicyChoice) -> None:
        """Keeps what a tenant chose for a domain."""
        self._state.policies[tenant, domain] = choice

    async def save_matching_policy(self, tenant: str, domain: str, policy: MatchingPolicy) -> None:
        """Keeps how a domain's matches are made."""
        self._state.matching_policies[tenant, domain] = policy

    async def emit_run(self, kind: RunEventKind, run: Run) -> None:
        """Keeps an event about a run."""
        self._state.events.append((f"run.{kind}", run))

    async def emit_head(
        self, kind: HeadEventKind, tenant: str, domain: str, head: Head | None, previous: str
    ) -> None:
        """Keeps an event about the pointer."""
        self._state.events.append((f"head.{kind}", (tenant, domain, head, previous)))

    def _save(self, run: Run) -> None:
        self._state.runs[run.job.tenant, run.run_id] = run

    def _move(self, run: Run) -> None:
        self._save(run)
        key, now = (run.job.tenant, run.run_id), self._clock.now()
        moves = self._state.moves.get(key, ())
        move = Move(number=len(moves) + 1, state=run.state, attempt=run.attempt, move_time=now)
        self._state.moves[key] = (*moves, move)

    def _note_times(self, run: Run, heartbeat: Heartbeat) -> None:
        key, now = (run.job.tenant, run.run_id), self._clock.now()
        for point in heartbeat.loss_points:
            self._state.evaluation_times.setdefault((key, point.step), now)
        if heartbeat.dataset is not None:
            self._state.dataset_times.setdefault(key, now)
        for checkpoint in heartbeat.checkpoints:
            told = self._state.checkpoints.setdefault(key, {})
            told.setdefault(checkpoint.step, dataclasses.replace(checkpoint, create_time=now))

    def _expire_in(self, run: Run, seconds: float) -> None:
        end = self._clock.now() + datetime.timedelta(seconds=seconds)
        self._state.expiries[run.job.tenant, run.run_id] = end


def _active_run(state: _State, tenant: str, domain: str) -> Run | None:
    runs = (run for run in state.runs.values() if run.state in ACTIVE)
    return next((r for r in runs if (r.job.tenant, r.job.domain) == (tenant, domain)), None)

"""What the scheduler's core needs from outside."""

import datetime
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Literal, Protocol

from services.scheduler.core.estimate import PastRun
from services.scheduler.core.file_source import Checkpoint, FileDataset, FileResult
from services.scheduler.core.head import Ancestor, Head, LearnedHead, PromotedHead
from services.scheduler.core.manifest import Manifest
from services.scheduler.core.matching_policy import MatchingPolicy
from services.scheduler.core.rollout import Rollout, ShadowFigures
from services.scheduler.core.rollout_policy import RolloutPolicy
from services.scheduler.core.run import Failure, Job, LossPoint, Run, State
from services.scheduler.core.run_events import RunHistory
from services.scheduler.core.sequential_test import ArmCounts
from services.scheduler.core.training_policy import PolicyChoice
from services.scheduler.core.verdict import Verdict

TRIPLETS_SHARE_MIN = 0.05
"""Triplets to a positive outcome. With fewer, the positive ones are what there is to learn from."""
POSITIVES_MIN = 100
"""Fewer positive outcomes alone say nothing about who goes with whom."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DomainCounts:
    """A domain as the triplet store counts it."""

    tenant: str
    domain: str
    revision: int
    triplets_count: int
    positives_count: int
    trained_triplets_count: int

    @property
    def examples_count(self) -> int:
        """What a run learns from: triplets, or positive outcomes where hardly anybody says no.

        There the recipe draws the negatives itself.
        """
        few = self.triplets_count < TRIPLETS_SHARE_MIN * self.positives_count
        if few and self.positives_count >= POSITIVES_MIN:
            return self.positives_count
        return self.triplets_count

    @property
    def triplets_pending_count(self) -> int:
        """Examples more than the last successful run saw."""
        return max(0, self.examples_count - self.trained_triplets_count)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeCounts:
    """A domain's standing outcomes in numbers."""

    outcomes_count: int
    positives_count: int
    """Accepted or converted."""
    seekers_count: int
    """People who gave at least one."""


@dataclass(frozen=True, slots=True)
class UserSnapshot:
    """A snapshot that was taken while a person was there."""

    domain: str
    digest: str
    erased: bool
    """Whether the person has been erased since."""


class TripletCounts(Protocol):
    """The triplet store's counts, and who is in its snapshots."""

    async def get(self, tenant: str, domain: str) -> DomainCounts:
        """Returns the counts of a domain.

        Raises:
            DomainNotFoundError: there is no such domain.
            TripletsUnavailableError: the store cannot be reached.
        """
        ...

    async def list(self) -> list[DomainCounts]:
        """Returns the counts of all domains with triplets or positive outcomes.

        Raises:
            TripletsUnavailableError: the store cannot be reached.
        """
        ...

    async def count_arms(
        self, tenant: str, domain: str, rollout_id: str
    ) -> tuple[ArmCounts, ArmCounts]:
        """Returns what challenger and incumbent have shown in a rollout, and what came of it.

        Raises:
            TripletsUnavailableError: the store cannot be reached.
        """
        ...

    async def count_outcomes(self, tenant: str, domain: str) -> OutcomeCounts:
        """Counts a domain's standing outcomes.

        Raises:
            DomainNotFoundError: there is no such domain.
            TripletsUnavailableError: the store cannot be reached.
        """
        ...

    async def snapshots_with(
        self, tenant: str, user_id: str, domain: str
    ) -> Sequence[UserSnapshot]:
        """Returns the snapshots with a person, of one domain or, for an empty one, of all.

        Raises:
            DomainNotFoundError: there is no such domain.
            TripletsUnavailableError: the store cannot be reached.
            UserNotFoundError: there is and was no such person.
        """
        ...

    async def outdated_snapshots(self) -> Sequence[str]:
        """Returns digests of snapshots that hold somebody who has been erased since.

        Raises:
            TripletsUnavailableError: the store cannot be reached.
        """
        ...

    async def drop_snapshot(self, digest: str) -> None:
        """Has a snapshot's file deleted.

        Raises:
            TripletsUnavailableError: the store cannot be reached.
        """
        ...

    async def record_training(self, tenant: str, domain: str, triplets_count: int) -> None:
        """Tells how many triplets the last successful run saw.

        Raises:
            TripletsUnavailableError: the store cannot be reached.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Heartbeat:
    """What a trainer reports while it works."""

    phase: State
    steps_done_count: int
    steps_count: int
    loss_points: Sequence[LossPoint]
    snapshot_digest: str
    checkpoint_digest: str
    dataset: FileDataset | None = None
    checkpoints: Sequence[Checkpoint] = ()
    """Those of a run from files that are models of their own, since the last heartbeat."""


RunEventKind = Literal["queued", "started", "paused", "resumed", "completed", "failed", "cancelled"]
HeadEventKind = Literal["promoted", "rolled_back", "pinned", "unpinned"]


class SchedulerUnit(Protocol):
    """One transaction: everything done through a unit commits together, or not at all."""

    async def add_run(self, job: Job) -> Run:
        """Queues a run for a job.

        Raises:
            RunActiveError: the domain has an active run; of racing calls one succeeds.
        """
        ...

    async def lock_file_runs(self, tenant: str) -> int:
        """Counts a tenant's active runs from files; nobody adds one until the unit ends."""
        ...

    async def find_file_run(self, tenant: str, model: str) -> Run | None:
        """Returns the run that makes a model, without its loss curve."""
        ...

    async def lock_run(self, tenant: str, run_id: str) -> Run | None:
        """Returns a run and keeps others from changing it until the unit ends."""
        ...

    async def lock_queued_run(self) -> Run | None:
        """Returns the oldest queued run that nobody else is taking."""
        ...

    async def lock_expired_runs(self) -> list[Run]:
        """Returns leased runs whose lease has ended, by the database's clock."""
        ...

    async def start_lease(
        self, run: Run, trainer: str, seconds: float, incumbent: str, prior: str = ""
    ) -> Run:
        """Moves a run to STARTING under a new, larger token, in attempt 1 at least."""
        ...

    async def extend_lease(self, run: Run, seconds: float, heartbeat: Heartbeat) -> None:
        """Moves the lease's end and keeps what the trainer reported."""
        ...

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
        """Moves a run to another state, which must be a legal move, and ends its lease.

        Back in the queue after a lease, it is in its next attempt.
        """
        ...

    async def request_stop(self, run: Run) -> Run:
        """Notes that a run shall end with what it has learned."""
        ...

    async def add_head(self, head: Head) -> None:
        """Keeps a new head."""
        ...

    async def lock_pointer(self, tenant: str, domain: str) -> Head | None:
        """Returns the head in use and keeps others from moving the pointer until the unit ends."""
        ...

    async def move_pointer(
        self, tenant: str, domain: str, head: str, previous: str, reason: str
    ) -> None:
        """Puts a head in use; an empty one means the encoder alone."""
        ...

    async def is_pinned(self, tenant: str, domain: str) -> bool:
        """Says whether the pointer is pinned. Lock it first."""
        ...

    async def set_pinned(self, tenant: str, domain: str, *, pinned: bool) -> None:
        """Pins the pointer where it points, or unpins it. Lock it first."""
        ...

    async def was_in_use(self, tenant: str, domain: str, head: str) -> bool:
        """Says whether the pointer has ever pointed at the head."""
        ...

    async def find_head(self, tenant: str, domain: str, head: str) -> Head | None:
        """Returns a head."""
        ...

    async def delete_head(self, tenant: str, head: str) -> None:
        """Takes a model out of use for good."""
        ...

    async def save_policy(self, tenant: str, domain: str, choice: PolicyChoice) -> None:
        """Keeps what a tenant chose for a domain, instead of what it chose before."""
        ...

    async def save_matching_policy(self, tenant: str, domain: str, policy: MatchingPolicy) -> None:
        """Keeps how a domain's matches are made, instead of how they were made before."""
        ...

    async def read_rollout_policy(self, tenant: str, domain: str) -> RolloutPolicy:
        """Returns how heads of a domain come into use; at once, at first."""
        ...

    async def save_rollout_policy(self, tenant: str, domain: str, policy: RolloutPolicy) -> None:
        """Keeps how heads of a domain come into use, instead of how they did before."""
        ...

    async def find_rollout(self, tenant: str, rollout_id: str) -> Rollout | None:
        """Returns a rollout."""
        ...

    async def open_rollouts(self, tenant: str, domain: str) -> list[Rollout]:
        """Returns a domain's rollouts that have not ended, oldest first. Lock the pointer first."""
        ...

    async def save_rollout(self, rollout: Rollout) -> None:
        """Keeps a rollout as it is now, but for its figures, which are what was reported."""
        ...

    async def save_figures(
        self, tenant: str, rollout_id: str, server: str, figures: ShadowFigures
    ) -> None:
        """Keeps what a serving process reports of a rollout, instead of what it said before.

        What is said of a rollout that is not there is left out.
        """
        ...

    async def emit_rollout(self, rollout: Rollout) -> None:
        """Tells the world what has become of a rollout once the unit has committed."""
        ...

    async def emit_run(self, kind: RunEventKind, run: Run) -> None:
        """Tells the world about a run once the unit has committed."""
        ...

    async def emit_head(
        self, kind: HeadEventKind, tenant: str, domain: str, head: Head | None, previous: str
    ) -> None:
        """Tells the world about the pointer once the unit has committed."""
        ...


class SchedulerStore(Protocol):
    """Everything that the service keeps."""

    def begin(self, tenant: str) -> AbstractAsyncContextManager[SchedulerUnit]:
        """Opens a unit about a tenant and what all share; "*" opens one about everyone."""
        ...

    async def read_run(self, tenant: str, run_id: str) -> Run | None:
        """Returns a run with its loss curve."""
        ...

    async def read_runs(self, tenant: str, run_ids: Collection[str]) -> list[Run]:
        """Returns those of the runs that are there, in any order, without their loss curves."""
        ...

    async def list_runs(
        self, tenant: str, domain: str, before: str, limit: int, *, from_files: bool = False
    ) -> list[Run]:
        """Returns runs, newest first, from the first older than `before`; empty means the newest.

        An empty domain means all; `from_files` leaves out runs of domains. Loss curves are left
        out.
        """
        ...

    async def read_history(self, tenant: str, run_id: str) -> RunHistory:
        """Returns when what happened in a run."""
        ...

    async def list_checkpoints(self, tenant: str, run_id: str) -> list[Checkpoint]:
        """Returns a run's checkpoints that are models of their own, newest first."""
        ...

    async def list_in_use(self, tenant: str) -> list[Head]:
        """Returns the heads in use of a tenant, by domain."""
        ...

    async def list_heads(self, tenant: str, domain: str, before: str, limit: int) -> list[Head]:
        """Returns heads, newest first, from the first older than `before`.

        The empty domain is that of models made from files.
        """
        ...

    async def list_heads_of(
        self, tenant: str, snapshots: Sequence[tuple[str, str]], before: str, limit: int
    ) -> list[LearnedHead]:
        """Returns the heads that learned from any of these (domain, digest), newest first.

        From the first older than `before`; empty means the newest.
        """
        ...

    async def read_head(self, tenant: str, head: str) -> Head | None:
        """Returns a head of whichever domain."""
        ...

    async def ancestors(self, tenant: str, head: str, limit: int) -> list[Ancestor]:
        """Returns the parents of a head, nearest first, those of the domain's tier included."""
        ...

    async def head_in_use(self, tenant: str, domain: str) -> Head | None:
        """Returns the head in use; None for the encoder alone."""
        ...

    async def pinned_head(self, tenant: str, domain: str) -> str | None:
        """Returns the head that the pointer is pinned to, empty for the encoder; None if none."""
        ...

    async def list_promoted(self, after: tuple[str, str], limit: int) -> list[PromotedHead]:
        """Returns what is in use by (tenant, domain), from the first above `after`.

        Domains with neither a head, nor a rollout under way, nor an exploration are left out.
        """
        ...

    async def read_rollout_policy(self, tenant: str, domain: str) -> RolloutPolicy:
        """Returns how heads of a domain come into use; at once, at first."""
        ...

    async def read_rollout(self, tenant: str, rollout_id: str) -> Rollout | None:
        """Returns a rollout."""
        ...

    async def list_rollouts(
        self, tenant: str, domain: str, before: str, limit: int
    ) -> list[Rollout]:
        """Returns rollouts, newest first, from the first older than `before`.

        An empty domain means all.
        """
        ...

    async def active_rollouts(self) -> list[Rollout]:
        """Returns all rollouts in shadow or canary."""
        ...

    async def last_run_time(self, tenant: str, domain: str) -> datetime.datetime | None:
        """Returns when the domain's newest run was created."""
        ...

    async def active_run(self, tenant: str, domain: str) -> Run | None:
        """Returns the domain's run that has not ended, without its loss curve."""
        ...

    async def read_policy(self, tenant: str, domain: str) -> PolicyChoice:
        """Returns what the tenant chose for the domain; nothing at first."""
        ...

    async def list_policies(self) -> dict[tuple[str, str], PolicyChoice]:
        """Returns all choices by (tenant, domain)."""
        ...

    async def read_matching_policy(self, tenant: str, domain: str) -> MatchingPolicy:
        """Returns how a domain's matches are made; the mesh's default at first."""
        ...

    async def past_runs(self, limit: int) -> list[PastRun]:
        """Returns what the newest runs of domains took that succeeded at once, without a pause."""
        ...

    async def snapshots_in_use(self) -> set[str]:
        """Returns the snapshots of active runs; "" for one that a trainer has not told yet."""
        ...

    async def queued_count(self) -> int:
        """Returns how many runs wait for a trainer."""
        ...

    async def untold_runs(self, limit: int) -> list[Run]:
        """Returns runs of domains with a head that the triplet store has not been told of."""
        ...

    async def mark_told(self, run: Run) -> None:
        """Notes that the triplet store knows of a run."""
        ...


class Manifests(Protocol):
    """Where heads say how they were made."""

    async def has(self, digest: str) -> bool:
        """Says whether an artifact is there.

        Raises:
            ArtifactsUnavailableError: it cannot be told.
        """
        ...

    async def read(self, head: Head) -> Manifest:
        """Returns a head's manifest.

        Raises:
            ArtifactsUnavailableError: it cannot be read.
        """
        ...

    async def read_told(self, digest: str) -> Manifest:
        """Returns the manifest that a trainer tells of.

        Raises:
            ArtifactsUnavailableError: the store cannot be asked.
            FieldInvalidError: there is none, or it has no signature of this deployment's.
        """
        ...


class Clock(Protocol):
    """The database's clock, as leases go by: what is stored and what is compared are its times."""

    def now(self) -> datetime.datetime:
        """Now, in UTC."""
        ...

"""The scheduler behind a real channel, with a store in memory and short ways to call it."""

import datetime
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np
from trine.scheduler.v1 import (
    head_service_pb2,
    head_service_pb2_grpc,
    lease_service_pb2,
    lease_service_pb2_grpc,
    promotion_service_pb2,
    promotion_service_pb2_grpc,
    run_pb2,
    run_service_pb2,
    run_service_pb2_grpc,
    training_service_pb2,
    training_service_pb2_grpc,
)

from services.chassis.artifacts import ObjectArtifacts, memory_artifacts, open_artifacts
from services.chassis.clock import ManualClock
from services.scheduler.artifacts import ArtifactManifests
from services.scheduler.core.errors import (
    DomainNotFoundError,
    TenantsTooFewError,
    TripletsUnavailableError,
    UserNotFoundError,
)
from services.scheduler.core.head import SHARED
from services.scheduler.core.ports import DomainCounts, OutcomeCounts, UserSnapshot
from services.scheduler.core.sequential_test import ArmCounts
from services.scheduler.core.training_policy import TrainingPolicy
from services.scheduler.memory import MemorySchedulerStore
from services.scheduler.rpc.errors import ERRORS
from services.scheduler.wiring import NAMES, register
from tests.support.server import ACME, MESH, running
from tests.support.signatures import SIGNER, VERIFIER

START = datetime.datetime(2026, 5, 17, 12, tzinfo=datetime.UTC)
POLICY = TrainingPolicy(triplets_budget=1_000, cool_down=datetime.timedelta(hours=1))
LEASE_SECONDS = 30.0
DIGEST = "a" * 64
MANIFEST: dict[str, object] = {
    "encoder": "test",
    "dim": 8,
    "columns": [{"name": "age", "type": "integer"}],
    "snapshot_digest": DIGEST,
    "recipe": json.dumps({"seed": 0, "cross": {"epochs": 30}}),
    "code_version": "1",
    "rule_version": "1",
    "outcomes_count": 900,
    "twins": [{"outcomes_count": 800}, {"outcomes_count": 810}],
    "twins_agreement": 0.97,
}
"""What a head's manifest says."""


class Triplets:
    """Domains as the triplet store counts them."""

    def __init__(self) -> None:
        self.trained: dict[str, int] = {}
        self.snapshots: dict[tuple[str, str], Sequence[UserSnapshot]] = {}
        self.arms = (ArmCounts(), ArmCounts())
        self.looks = 0
        self.reachable = True
        self.outdated: list[str] = []
        self.dropped: list[str] = []
        self.counts = {"dating": 4_218, "hiring": 10, "empty": 0}
        self.positives: dict[str, int] = {}
        self.shared: dict[str, int] = {}
        """Triplets of the domains that tenants share."""

    async def get(self, tenant: str, domain: str) -> DomainCounts:
        if tenant == SHARED:
            if domain not in self.shared:
                raise TenantsTooFewError(domain)
            return DomainCounts(
                tenant=tenant,
                domain=domain,
                revision=0,
                triplets_count=self.shared[domain],
                trained_triplets_count=self.trained.get(f"{SHARED}/{domain}", 0),
                positives_count=self.shared[domain],
            )
        if tenant != "acme" or domain not in self.counts:
            raise DomainNotFoundError(domain)
        return DomainCounts(
            tenant=tenant,
            domain=domain,
            revision=7,
            triplets_count=self.counts[domain],
            positives_count=self.positives.get(domain, 0),
            trained_triplets_count=self.trained.get(domain, 0),
        )

    async def list(self) -> list[DomainCounts]:
        shared = [await self.get(SHARED, name) for name in self.shared]
        own = [await self.get("acme", name) for name, count in self.counts.items() if count]
        return shared + own

    async def count_outcomes(self, tenant: str, domain: str) -> OutcomeCounts:
        await self.get(tenant, domain)
        return OutcomeCounts(outcomes_count=900, positives_count=300, seekers_count=80)

    async def snapshots_with(
        self, tenant: str, user_id: str, domain: str
    ) -> Sequence[UserSnapshot]:
        if domain:
            await self.get(tenant, domain)
        if (tenant, user_id) not in self.snapshots:
            raise UserNotFoundError(user_id)
        return [one for one in self.snapshots[tenant, user_id] if domain in ("", one.domain)]

    async def count_arms(
        self, tenant: str, domain: str, rollout_id: str
    ) -> tuple[ArmCounts, ArmCounts]:
        if not self.reachable:
            raise TripletsUnavailableError
        self.looks += 1
        return self.arms

    async def outdated_snapshots(self) -> Sequence[str]:
        return [digest for digest in self.outdated if digest not in self.dropped]

    async def drop_snapshot(self, digest: str) -> None:
        self.dropped.append(digest)

    async def record_training(self, tenant: str, domain: str, triplets_count: int) -> None:
        self.trained[f"{SHARED}/{domain}" if tenant == SHARED else domain] = triplets_count


@dataclass
class Scheduler:
    """The service, its stubs, and the world around it."""

    channel: grpc.aio.Channel
    store: MemorySchedulerStore
    clock: ManualClock
    artifacts: ObjectArtifacts
    triplets: Triplets = field(default_factory=Triplets)

    def heads_stub(self) -> Any:
        """HeadService."""
        return head_service_pb2_grpc.HeadServiceStub(self.channel)

    def train(self, domain: str = "dating", metadata: Any = ACME, **content: Any) -> Any:
        request = training_service_pb2.TrainDomainRequest(domain=domain, **content)
        stub = training_service_pb2_grpc.TrainingServiceStub(self.channel)
        return stub.TrainDomain(request, metadata=metadata)

    def run(self, run_id: str, metadata: Any = ACME) -> Any:
        request = run_service_pb2.GetRunRequest(run_id=run_id)
        stub = run_service_pb2_grpc.RunServiceStub(self.channel)
        return stub.GetRun(request, metadata=metadata)

    def cancel(self, run_id: str, metadata: Any = ACME) -> Any:
        request = run_service_pb2.CancelRunRequest(run_id=run_id)
        stub = run_service_pb2_grpc.RunServiceStub(self.channel)
        return stub.CancelRun(request, metadata=metadata)

    def runs(self, **content: Any) -> Any:
        request = run_service_pb2.ListRunsRequest(**content)
        stub = run_service_pb2_grpc.RunServiceStub(self.channel)
        return stub.ListRuns(request, metadata=ACME)

    async def lease(self) -> lease_service_pb2.LeaseRunResponse.LeasedRun | None:
        stub = lease_service_pb2_grpc.LeaseServiceStub(self.channel)
        request = lease_service_pb2.LeaseRunRequest(trainer="test")
        response = await stub.LeaseRun(request, metadata=MESH)
        return response.run if response.HasField("run") else None

    def heartbeat(self, leased: Any, **content: Any) -> Any:
        request = lease_service_pb2.HeartbeatRunRequest(
            tenant=leased.tenant,
            run_id=leased.run_id,
            token=leased.token,
            phase=content.pop("phase", lease_service_pb2.HeartbeatRunRequest.PHASE_RUNNING),
            **content,
        )
        stub = lease_service_pb2_grpc.LeaseServiceStub(self.channel)
        return stub.HeartbeatRun(request, metadata=MESH)

    async def told(self, leased: Any, **manifest: object) -> str:
        """Stores the manifest of a leased run's head, signed, and returns its digest."""
        return await self.artifacts.put(SIGNER.sign(self.manifest(leased, **manifest)))

    def manifest(self, leased: Any, **changes: object) -> bytes:
        """The manifest of a leased run's head."""
        made = {name: getattr(leased, name) for name in ("tenant", "domain", "head", "run_id")}
        return json.dumps(MANIFEST | made | changes).encode()

    async def complete(
        self, leased: Any, better: bool = True, digest: str = "", pages: Any = None
    ) -> Any:
        request = lease_service_pb2.CompleteRunRequest(
            tenant=leased.tenant,
            run_id=leased.run_id,
            token=leased.token,
            manifest_digest=digest or await self.told(leased),
            evaluation=evaluation(better=better),
        )
        if pages is not None:
            request.evaluation.pages.CopyFrom(pages)
        stub = lease_service_pb2_grpc.LeaseServiceStub(self.channel)
        return await stub.CompleteRun(request, metadata=MESH)

    def fail(self, leased: Any, *, retriable: bool) -> Any:
        request = lease_service_pb2.FailRunRequest(
            tenant=leased.tenant,
            run_id=leased.run_id,
            token=leased.token,
            failure=run_pb2.Run.Failure(
                reason="TRAINER_ERROR", message="It broke.", retriable=retriable
            ),
        )
        return lease_service_pb2_grpc.LeaseServiceStub(self.channel).FailRun(request, metadata=MESH)

    async def trained(
        self, better: bool = True, learned_from: str = DIGEST, **manifest: object
    ) -> str:
        """Trains a head from wish to verdict and returns its run."""
        run_id: str = (await self.train(force=True)).run_id
        leased = await self.lease()
        await self.heartbeat(leased, snapshot_digest=learned_from)
        await self.complete(leased, better, await self.told(leased, **manifest))
        return run_id

    async def promoted(self) -> list[str]:
        stub = promotion_service_pb2_grpc.PromotionServiceStub(self.channel)
        request = promotion_service_pb2.ListPromotedHeadsRequest()
        response = await stub.ListPromotedHeads(request, metadata=MESH)
        return [head.head for head in response.heads]

    def roll_back(self, head: str = "", domain: str = "dating") -> Any:
        request = head_service_pb2.RollBackHeadRequest(domain=domain, head=head)
        stub = head_service_pb2_grpc.HeadServiceStub(self.channel)
        return stub.RollBackHead(request, metadata=ACME)

    async def heads(self) -> list[Any]:
        stub = head_service_pb2_grpc.HeadServiceStub(self.channel)
        request = head_service_pb2.ListHeadsRequest(domain="dating")
        return list((await stub.ListHeads(request, metadata=ACME)).heads)


def evaluation(*, better: bool) -> lease_service_pb2.CompleteRunRequest.Evaluation:
    """A held-out set on which the challenger knows the truth, or nothing."""
    random = np.random.default_rng(1)
    chance = random.uniform(0.05, 0.95, 100 * 12)
    positive = random.random(len(chance)) < chance
    noise = random.uniform(0.05, 0.95, len(chance))
    challenger, incumbent = (chance, noise) if better else (noise, chance)
    return lease_service_pb2.CompleteRunRequest.Evaluation(
        seekers=np.repeat(np.arange(100), 12).tolist(),
        levels=np.where(positive, 2, 0).tolist(),
        challenger_scores=challenger.tolist(),
        incumbent_scores=incumbent.tolist(),
        incumbent_calibrated=False,
    )


@asynccontextmanager
async def open_service(address: str = "", folder: str = "") -> AsyncIterator[Scheduler]:
    """The scheduler with nothing in it; its artifacts are in memory unless a folder is named."""
    clock, triplets = ManualClock(START), Triplets()
    artifacts = open_artifacts(folder) if folder else memory_artifacts()
    store = MemorySchedulerStore(clock)
    manifests = ArtifactManifests(artifacts, VERIFIER)

    def add(server: grpc.aio.Server) -> None:
        register(
            server, store, triplets, manifests, clock, policy=POLICY, lease_seconds=LEASE_SECONDS
        )

    async with running(ERRORS, add, NAMES, address) as channel:
        yield Scheduler(channel, store, clock, artifacts, triplets)

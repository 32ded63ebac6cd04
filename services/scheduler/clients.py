"""What the scheduler asks of other services: the triplet store's counts and snapshots."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import grpc
from trine.triplets.v1 import domain_service_pb2 as pb
from trine.triplets.v1 import (
    domain_service_pb2_grpc,
    exposure_service_pb2,
    exposure_service_pb2_grpc,
    snapshot_service_pb2,
    snapshot_service_pb2_grpc,
)

from services.chassis.crashpoint import crashpoint
from services.chassis.errors import read_error_info
from services.scheduler.core.errors import (
    DomainNotFoundError,
    FieldInvalidError,
    TenantsTooFewError,
    TripletsUnavailableError,
    UserNotFoundError,
)
from services.scheduler.core.ports import DomainCounts, OutcomeCounts, UserSnapshot
from services.scheduler.core.sequential_test import ArmCounts

COUNT_SECONDS_MAX = 60.0
"""Counting the arms of a rollout of a million matches takes a dozen."""


class TripletsClient:
    """The triplet store's counts and snapshots over gRPC."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = domain_service_pb2_grpc.DomainServiceStub(channel)
        self._snapshots = snapshot_service_pb2_grpc.SnapshotServiceStub(channel)
        self._exposures = exposure_service_pb2_grpc.ExposureServiceStub(channel)

    async def get(self, tenant: str, domain: str) -> DomainCounts:
        """Returns the counts of a domain."""
        with _naming(domain):
            response = await self._stub.GetDomain(pb.GetDomainRequest(tenant=tenant, domain=domain))
        return _counts(response.domain)

    async def count_outcomes(self, tenant: str, domain: str) -> OutcomeCounts:
        """Counts a domain's standing outcomes."""
        request = pb.CountOutcomesRequest(tenant=tenant, domain=domain)
        with _naming(domain):
            counted = await self._stub.CountOutcomes(request)
        return OutcomeCounts(
            outcomes_count=counted.outcomes_count,
            positives_count=counted.positives_count,
            seekers_count=counted.seekers_count,
        )

    async def list(self) -> list[DomainCounts]:
        """Returns the counts of all domains with triplets or positive outcomes."""
        found: list[DomainCounts] = []
        token = ""
        while True:
            try:
                page = await self._stub.ListDomains(pb.ListDomainsRequest(page_token=token))
            except grpc.aio.AioRpcError as error:
                raise TripletsUnavailableError from error
            found += [_counts(domain) for domain in page.domains]
            token = page.next_page_token
            if not token:
                return found

    async def count_arms(
        self, tenant: str, domain: str, rollout_id: str
    ) -> tuple[ArmCounts, ArmCounts]:
        """Returns what challenger and incumbent have shown, and what came of it."""
        request = exposure_service_pb2.CountArmsRequest(
            tenant=tenant, domain=domain, rollout_id=rollout_id
        )
        try:
            response = await self._exposures.CountArms(request, timeout=COUNT_SECONDS_MAX)
        except grpc.aio.AioRpcError as error:
            raise TripletsUnavailableError from error
        arms = {arm.arm: _arm(arm) for arm in response.arms}
        return arms.get("challenger", ArmCounts()), arms.get("incumbent", ArmCounts())

    async def record_training(self, tenant: str, domain: str, triplets_count: int) -> None:
        """Tells how many triplets the last successful run saw."""
        request = pb.RecordTrainingRequest(
            tenant=tenant, domain=domain, trained_triplets_count=triplets_count
        )
        try:
            await self._stub.RecordTraining(request)
        except grpc.aio.AioRpcError as error:
            raise TripletsUnavailableError from error
        crashpoint("scheduler.trained.told")

    async def snapshots_with(
        self, tenant: str, user_id: str, domain: str
    ) -> Sequence[UserSnapshot]:
        """Returns the snapshots with a person, of one domain or, for an empty one, of all."""
        request = snapshot_service_pb2.ListUserSnapshotsRequest(
            tenant=tenant, user_id=user_id, domain=domain
        )
        found: list[UserSnapshot] = []
        while True:
            with _naming(domain, user_id):
                page = await self._snapshots.ListUserSnapshots(request)
            found += [UserSnapshot(s.domain, s.digest, s.erased) for s in page.snapshots]
            request.page_token = page.next_page_token
            if not request.page_token:
                return found

    async def outdated_snapshots(self) -> Sequence[str]:
        """Returns digests of snapshots that hold somebody who has been erased since."""
        request = snapshot_service_pb2.ListOutdatedSnapshotsRequest()
        try:
            return list((await self._snapshots.ListOutdatedSnapshots(request)).digests)
        except grpc.aio.AioRpcError as error:
            raise TripletsUnavailableError from error

    async def drop_snapshot(self, digest: str) -> None:
        """Has a snapshot's file deleted."""
        try:
            await self._snapshots.DropSnapshot(
                snapshot_service_pb2.DropSnapshotRequest(digest=digest)
            )
        except grpc.aio.AioRpcError as error:
            raise TripletsUnavailableError from error


@contextmanager
def _naming(domain: str, user_id: str = "") -> Iterator[None]:
    """Tells refusals of the triplet store as the scheduler's own."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        if read_error_info(error).reason == "USER_NOT_FOUND":
            raise UserNotFoundError(user_id) from None
        if read_error_info(error).reason == "TENANTS_TOO_FEW":
            raise TenantsTooFewError(domain) from None
        if error.code() is grpc.StatusCode.NOT_FOUND:
            raise DomainNotFoundError(domain) from None
        if error.code() is grpc.StatusCode.INVALID_ARGUMENT:
            rule = "must be characters that can be stored"
            raise FieldInvalidError("user_id" if user_id else "domain", rule) from None
        raise TripletsUnavailableError from error


def _arm(arm: exposure_service_pb2.CountArmsResponse.Arm) -> ArmCounts:
    return ArmCounts(
        matches_count=arm.matches_count,
        seekers_count=arm.seekers_count,
        outcomes_count=arm.outcomes_count,
        positives_count=arm.positives_count,
        outcomes_squared_sum=arm.outcomes_squared_sum,
        products_sum=arm.products_sum,
        positives_squared_sum=arm.positives_squared_sum,
    )


def _counts(domain: pb.Domain) -> DomainCounts:
    return DomainCounts(
        tenant=domain.tenant,
        domain=domain.domain,
        revision=domain.revision,
        triplets_count=domain.triplets_count,
        positives_count=domain.positives_count,
        trained_triplets_count=domain.trained_triplets_count,
    )

"""OutcomeService: what happened, between wire and core."""

import datetime

from trine.triplets.v1 import outcome_service_pb2 as pb
from trine.triplets.v1 import outcome_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.clock import Clock
from services.chassis.crashpoint import crashpoint
from services.chassis.errors import describe
from services.chassis.interceptors import Context
from services.chassis.replies import answer_once
from services.triplets.core.ports import DomainUnit, TripletStore
from services.triplets.core.report_outcomes import (
    ItemError,
    OutcomeDraft,
    check_drafts,
    report_outcomes,
)
from services.triplets.rpc.errors import ERRORS


class OutcomeServicer(outcome_service_pb2_grpc.OutcomeServiceServicer):
    """Records outcomes."""

    def __init__(self, store: TripletStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def ReportOutcomes(
        self, request: pb.ReportOutcomesRequest, context: Context
    ) -> pb.ReportOutcomesResponse:
        now = self._clock.now()
        drafts = [_draft(item, now) for item in request.items]
        sieve = check_drafts(drafts, now, partial=request.partial)

        async def act(unit: DomainUnit) -> pb.ReportOutcomesResponse:
            result = await report_outcomes(unit, drafts, sieve)
            crashpoint("triplets.outcomes.written")
            return pb.ReportOutcomesResponse(
                accepted=result.accepted_count,
                triplets_generated=result.triplets_generated_count,
                triplets_pending_train=result.triplets_pending_count,
                errors=[_error(error) for error in result.errors],
            )

        opening = self._store.open_domain(current_tenant(), request.domain)
        response = await answer_once(opening, request, context, pb.ReportOutcomesResponse, act)
        crashpoint("triplets.outcomes.committed")
        return response


def _draft(item: pb.ReportOutcomesRequest.Item, now: datetime.datetime) -> OutcomeDraft:
    occurred_at: datetime.datetime | None = now
    if item.HasField("occurred_at"):
        try:
            occurred_at = item.occurred_at.ToDatetime(datetime.UTC)
        except ValueError:
            occurred_at = None
    return OutcomeDraft(
        seeker_id=item.seeker_id,
        candidate_id=item.candidate_id,
        label=item.outcome,
        weight=item.weight if item.HasField("weight") else None,
        occurred_at=occurred_at,
        match_id=item.match_id,
    )


def _error(item: ItemError) -> pb.ReportOutcomesResponse.Error:
    public = describe(item.error, ERRORS)
    assert public is not None  # the table has a row for every error of the core
    return pb.ReportOutcomesResponse.Error(
        index=item.index,
        field=public.metadata["field"],
        reason=public.reason,
        message=public.message,
    )

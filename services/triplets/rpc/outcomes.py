"""OutcomeService: what happened, between wire and core."""

import datetime

from trine.triplets.v1 import outcome_service_pb2 as pb
from trine.triplets.v1 import outcome_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.clock import Clock
from services.chassis.interceptors import Context
from services.chassis.replies import answer_once
from services.triplets.core.errors import FieldInvalidError
from services.triplets.core.ports import DomainUnit, TripletStore
from services.triplets.core.report_outcomes import OutcomeDraft, check_drafts, report_outcomes


class OutcomeServicer(outcome_service_pb2_grpc.OutcomeServiceServicer):
    """Records outcomes."""

    def __init__(self, store: TripletStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def ReportOutcomes(
        self, request: pb.ReportOutcomesRequest, context: Context
    ) -> pb.ReportOutcomesResponse:
        now = self._clock.now()
        drafts = [_draft(index, item, now) for index, item in enumerate(request.items)]
        check_drafts(drafts, now)

        async def act(unit: DomainUnit) -> pb.ReportOutcomesResponse:
            result = await report_outcomes(unit, drafts)
            return pb.ReportOutcomesResponse(
                accepted=result.accepted_count,
                triplets_generated=result.triplets_generated_count,
                triplets_pending_train=result.triplets_pending_count,
            )

        opening = self._store.open_domain(current_tenant(), request.domain)
        return await answer_once(opening, request, context, pb.ReportOutcomesResponse, act)


def _draft(index: int, item: pb.ReportOutcomesRequest.Item, now: datetime.datetime) -> OutcomeDraft:
    occurred_at = now
    if item.HasField("occurred_at"):
        try:
            occurred_at = item.occurred_at.ToDatetime(datetime.UTC)
        except ValueError:
            rule = "must be a time between the years 1 and 9999"
            raise FieldInvalidError(f"items[{index}].occurred_at", rule) from None
    return OutcomeDraft(
        seeker_id=item.seeker_id,
        candidate_id=item.candidate_id,
        label=item.outcome,
        weight=item.weight if item.HasField("weight") else 1.0,
        occurred_at=occurred_at,
    )

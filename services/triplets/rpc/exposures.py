"""ExposureService: what matches showed, between wire and core."""

import dataclasses
import datetime
from collections.abc import Sequence

from trine.triplets.v1 import exposure_service_pb2 as pb
from trine.triplets.v1 import exposure_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.crashpoint import crashpoint
from services.chassis.interceptors import Context
from services.triplets.core.errors import FieldInvalidError, MatchNotFoundError
from services.triplets.core.exposure import (
    Exploration,
    Exposure,
    ExposureStore,
    NamedExposure,
)
from services.triplets.core.outcome import MATCH_ID_CHARACTERS_MAX

EXPOSURES_MAX = 500
RANK_MAX = 2**31 - 1
"""What an int32 holds."""


class ExposureServicer(exposure_service_pb2_grpc.ExposureServiceServicer):
    """Records and reads exposures."""

    def __init__(self, store: ExposureStore) -> None:
        self._store = store

    async def GetExposure(
        self, request: pb.GetExposureRequest, context: Context
    ) -> pb.GetExposureResponse:
        if not 1 <= len(request.match_id) <= MATCH_ID_CHARACTERS_MAX or "\0" in request.match_id:
            rule = f"must have 1 to {MATCH_ID_CHARACTERS_MAX} characters"
            raise FieldInvalidError("match_id", rule)
        found = await self._store.read(current_tenant(), request.match_id)
        if found is None:
            raise MatchNotFoundError(request.match_id)
        return _to_proto(found)

    async def RecordExposures(
        self, request: pb.RecordExposuresRequest, context: Context
    ) -> pb.RecordExposuresResponse:
        if not 1 <= len(request.exposures) <= EXPOSURES_MAX:
            raise FieldInvalidError("exposures", f"must be 1 to {EXPOSURES_MAX}")
        await self._store.record([_from_proto(exposure) for exposure in request.exposures])
        crashpoint("triplets.exposures.recorded")
        return pb.RecordExposuresResponse()

    async def CountArms(
        self, request: pb.CountArmsRequest, context: Context
    ) -> pb.CountArmsResponse:
        arms = await self._store.count_arms(request.tenant, request.domain, request.rollout_id)
        return pb.CountArmsResponse(
            arms=[pb.CountArmsResponse.Arm(**dataclasses.asdict(arm)) for arm in arms]
        )


def _from_proto(message: pb.RecordExposuresRequest.Exposure) -> Exposure:
    try:
        match_time = message.match_time.ToDatetime(datetime.UTC)
    except ValueError:
        raise FieldInvalidError("exposures.match_time", "must be a time") from None
    explored = message.exploration
    columns: list[Sequence[float]] = [message.scores]
    if message.HasField("exploration"):
        columns += [explored.ranker_ranks, explored.propensities]
    if {len(column) for column in columns} != {len(message.candidates)}:
        raise FieldInvalidError("exposures", "must say as much of each candidate")
    if not 1 <= message.first_rank <= RANK_MAX - len(message.candidates):
        rule = f"must be at least 1, and the last rank at most {RANK_MAX}"
        raise FieldInvalidError("exposures.first_rank", rule)
    return Exposure(
        match_id=message.match_id,
        tenant=message.tenant,
        domain=message.domain,
        head=message.head,
        tier=message.tier,
        run_id=message.run_id,
        match_time=match_time,
        seeker=message.seeker,
        first_rank=message.first_rank,
        candidates=message.candidates,
        scores=message.scores,
        rollout_id=message.rollout_id,
        arm=message.arm,
        exploration=_exploration(explored) if message.HasField("exploration") else None,
    )


def _exploration(message: pb.Exploration) -> Exploration:
    return Exploration(
        share=message.share,
        explored=message.explored,
        ranker_ranks=message.ranker_ranks,
        propensities=message.propensities,
    )


def _to_proto(found: NamedExposure) -> pb.GetExposureResponse:
    exposure, names = found.exposure, found.user_ids
    response = pb.GetExposureResponse(
        match_id=exposure.match_id,
        domain=exposure.domain,
        user_id=names.get(exposure.seeker, ""),
        head=exposure.head,
        tier=exposure.tier,
        run_id=exposure.run_id,
        rollout_id=exposure.rollout_id,
        arm=exposure.arm,
    )
    response.match_time.FromDatetime(exposure.match_time)
    ranks = range(exposure.first_rank, exposure.first_rank + len(exposure.candidates))
    ranker_ranks: Sequence[int] = ranks
    propensities: Sequence[float] = [1.0] * len(ranks)
    if exposure.exploration is not None:
        response.exploration = exposure.exploration.share
        response.explored = exposure.exploration.explored
        ranker_ranks = exposure.exploration.ranker_ranks
        propensities = exposure.exploration.propensities
    columns = (exposure.candidates, ranks, exposure.scores, ranker_ranks, propensities)
    for number, rank, score, ranker_rank, propensity in zip(*columns, strict=True):
        if number in names:
            response.shown.add(
                user_id=names[number],
                rank=rank,
                score=score,
                ranker_rank=ranker_rank,
                propensity=propensity,
            )
    return response

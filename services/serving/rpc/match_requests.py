"""Requests for matches read from the wire."""

from collections.abc import Mapping, Sequence

from google.protobuf import struct_pb2
from trine.serving.v1 import match_service_pb2 as pb

from services.chassis.structs import read_struct, read_value
from services.serving.core.conditions import remembered
from services.serving.core.errors import FieldInvalidError
from services.serving.core.explain_matches import EXPLAINED_MAX
from services.serving.core.filters import read_filters
from services.serving.core.find_matches import MatchRequest
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.stages import JUDGE, StageOptions, read_stages
from services.serving.rpc.page_tokens import read_token

LIMIT_DEFAULT = 10
LIMIT_MAX = 1_000
EXCLUDE_MAX = 1_000
SEEKERS_MAX = 100
BATCH_MATCHES_MAX = 10_000


def read_request(
    served: ServedDomain, request: pb.FindMatchesRequest, name: str, *, judge_configured: bool
) -> MatchRequest:
    """One seeker's request; `name` is its fingerprint."""
    if not request.user_id:
        raise FieldInvalidError("user_id", "must be given")
    limit = _limit(request, EXPLAINED_MAX if request.explain else LIMIT_MAX)
    stages, token = _stages(request.stages, judge_configured), request.page_token
    if token and stages[JUDGE].enabled:
        raise FieldInvalidError("page_token", "must be empty with llm_judge: it has one page")
    return MatchRequest(
        user_id=request.user_id,
        conditions=read_filters(served.partition, read_struct(request.filters)),
        stages=stages,
        limit=limit,
        exclude=_exclude(request.exclude),
        exclude_seen=request.exclude_seen,
        after=read_token(token, served.head.head, name) if token else None,
    )


def read_batch(served: ServedDomain, request: pb.BatchFindMatchesRequest) -> list[MatchRequest]:
    """Many seekers' requests, which share what they ask for."""
    if not 1 <= len(request.user_ids) <= SEEKERS_MAX:
        raise FieldInvalidError("user_ids", f"must be 1 to {SEEKERS_MAX}")
    limit = _limit(request, min(LIMIT_MAX, BATCH_MATCHES_MAX // len(request.user_ids)))
    stages = _stages(request.stages, judge_configured=True)
    if stages[JUDGE].enabled:
        raise FieldInvalidError(f"stages.{JUDGE}", "is for single matches")
    conditions = remembered(read_filters(served.partition, read_struct(request.filters)))
    exclude = _exclude(request.exclude)
    return [
        MatchRequest(
            user_id=user_id,
            conditions=conditions,
            stages=stages,
            limit=limit,
            exclude=exclude,
            exclude_seen=request.exclude_seen,
        )
        for user_id in request.user_ids
    ]


def _limit(request: pb.FindMatchesRequest | pb.BatchFindMatchesRequest, most: int) -> int:
    limit = request.limit if request.HasField("limit") else LIMIT_DEFAULT
    if not 1 <= limit <= most:
        raise FieldInvalidError("limit", f"must be 1 to {most}")
    return limit


def _stages(
    content: Mapping[str, struct_pb2.Value], judge_configured: bool
) -> Mapping[str, StageOptions]:
    wanted = {name: read_value(value) for name, value in content.items()}
    return read_stages(wanted, judge_configured=judge_configured)


def _exclude(user_ids: Sequence[str]) -> Sequence[str]:
    if len(user_ids) > EXCLUDE_MAX:
        raise FieldInvalidError("exclude", f"must be at most {EXCLUDE_MAX}")
    return user_ids

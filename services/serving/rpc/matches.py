"""MatchService: a match between wire and core. Everything here is on the hot path."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor

from trine.serving.v1 import match_service_pb2 as pb
from trine.serving.v1 import match_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.interceptors import Context
from services.chassis.structs import read_struct, read_value
from services.serving.core.errors import (
    DomainNotFoundError,
    FieldInvalidError,
    NotReadyError,
)
from services.serving.core.filters import read_filters
from services.serving.core.find_matches import FILTER, MatchRequest, MatchResult, find_matches
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.stages import read_stages
from services.serving.core.swap_heads import Registry
from services.serving.metrics import MATCHES, observe_stages
from services.serving.rpc.page_tokens import fingerprint, read_token, write_token

LIMIT_DEFAULT = 10
LIMIT_MAX = 1_000
EXCLUDE_MAX = 1_000
_UNDECISIVE = ("limit", "page_token")


class MatchServicer(match_service_pb2_grpc.MatchServiceServicer):
    """Ranks candidates for seekers."""

    def __init__(
        self, registry: Registry, is_ready: Callable[[], bool], executor: Executor
    ) -> None:
        self._registry = registry
        self._is_ready = is_ready
        self._executor = executor

    async def FindMatches(
        self, request: pb.FindMatchesRequest, context: Context
    ) -> pb.FindMatchesResponse:
        served = self._served(request.domain)
        name = fingerprint(request, _UNDECISIVE)
        wish = _read(served, request, name)
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(self._executor, find_matches, served, wish)
        observe_stages(result.seconds)
        MATCHES.labels(served.head.tier).inc()
        response = _to_proto(served, result)
        if result.end is not None:
            response.next_page_token = write_token(result.end, served.head.head, name)
        return response

    def _served(self, domain: str) -> ServedDomain:
        if not domain:
            raise FieldInvalidError("domain", "must be given")
        served = self._registry.domains.get((current_tenant(), domain))
        if served is not None:
            return served
        if not self._is_ready():
            raise NotReadyError
        raise DomainNotFoundError(domain)


def _read(served: ServedDomain, request: pb.FindMatchesRequest, name: str) -> MatchRequest:
    if not request.user_id:
        raise FieldInvalidError("user_id", "must be given")
    limit = request.limit if request.HasField("limit") else LIMIT_DEFAULT
    if not 1 <= limit <= LIMIT_MAX:
        raise FieldInvalidError("limit", f"must be 1 to {LIMIT_MAX}")
    if len(request.exclude) > EXCLUDE_MAX:
        raise FieldInvalidError("exclude", f"must be at most {EXCLUDE_MAX}")
    token = request.page_token
    return MatchRequest(
        user_id=request.user_id,
        conditions=read_filters(served.partition, read_struct(request.filters)),
        stages=read_stages({n: read_value(v) for n, v in request.stages.items()}),
        limit=limit,
        exclude=request.exclude,
        exclude_seen=request.exclude_seen,
        after=read_token(token, served.head.head, name) if token else None,
    )


def _to_proto(served: ServedDomain, result: MatchResult) -> pb.FindMatchesResponse:
    response = pb.FindMatchesResponse(
        pipeline_stats={f"after_{name}": count for name, count in result.counts.items()}
    )
    for name in result.counts:
        if name != FILTER:
            model = response.models_used[name]
            model.tier, model.version = served.head.tier, served.head.head
    user_ids = served.partition.user_ids
    names = list(result.stage_scores)
    columns = [scores.tolist() for scores in result.stage_scores.values()]
    add = response.matches.add
    for number, *scores in zip(result.numbers.tolist(), *columns, strict=True):
        add(
            user_id=user_ids[number],
            score=scores[-1],
            stage_scores=dict(zip(names, scores, strict=True)),
        )
    return response

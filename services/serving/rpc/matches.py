"""MatchService: a match between wire and core. Everything here is on the hot path."""

import asyncio
import dataclasses
from collections.abc import Callable
from concurrent.futures import Executor

from trine.serving.v1 import match_service_pb2 as pb
from trine.serving.v1 import match_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.errors import describe
from services.chassis.interceptors import Context
from services.serving.core.errors import (
    DomainNotFoundError,
    FieldInvalidError,
    NotReadyError,
    ServingError,
)
from services.serving.core.explore import explore
from services.serving.core.exposure import Exposure, ExposureLog, new_match_id
from services.serving.core.find_matches import MatchRequest, MatchResult, find_matches
from services.serving.core.judge_matches import judge_matches
from services.serving.core.loaded_head import Arm, ServedDomain
from services.serving.core.ports import Clock, Judge
from services.serving.core.shadow import ShadowRanker, TrialJournal
from services.serving.core.stages import FILTER, JUDGE
from services.serving.core.swap_heads import Registry
from services.serving.metrics import ARM_MATCHES, MATCHES, observe_stages
from services.serving.rpc.errors import ERRORS
from services.serving.rpc.explanations import explain
from services.serving.rpc.match_requests import read_batch, read_request
from services.serving.rpc.page_tokens import fingerprint, write_token

JUDGE_TIER = "judge"
_UNDECISIVE = ("limit", "page_token", "explain")


class MatchServicer(match_service_pb2_grpc.MatchServiceServicer):
    """Ranks candidates for seekers."""

    def __init__(
        self,
        registry: Registry,
        is_ready: Callable[[], bool],
        executor: Executor,
        *,
        judge: Judge | None,
        exposures: ExposureLog,
        journal: TrialJournal,
        shadow: ShadowRanker,
        clock: Clock,
    ) -> None:
        self._registry = registry
        self._is_ready = is_ready
        self._executor = executor
        self._judge = judge
        self._exposures = exposures
        self._journal = journal
        self._shadow = shadow
        self._clock = clock

    async def FindMatches(
        self, request: pb.FindMatchesRequest, context: Context
    ) -> pb.FindMatchesResponse:
        served = self._served(request.domain)
        name = fingerprint(request, _UNDECISIVE)
        ranks = served.for_seeker(request.user_id)
        wish = read_request(ranks, request, name, judge_configured=self._judge is not None)
        served, result = await self._find(served, wish)
        response, result = self._answer(served, request.domain, wish, result)
        if JUDGE in result.seconds:
            assert self._judge is not None
            model = response.models_used[JUDGE]
            model.tier, model.version = JUDGE_TIER, self._judge.model
            if result.judge_failure:
                model.note = result.judge_failure
        elif result.end is not None:
            response.next_page_token = write_token(result.end, served.head.head, name)
        if request.explain:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(self._executor, explain, response, served, result)
        return response

    async def BatchFindMatches(
        self, request: pb.BatchFindMatchesRequest, context: Context
    ) -> pb.BatchFindMatchesResponse:
        served = self._served(request.domain)
        response = pb.BatchFindMatchesResponse()
        # One after the other, so that a batch never holds up other requests by more than a match.
        for wish in read_batch(served, request):
            result = response.results.add(user_id=wish.user_id)
            try:
                ranks, found = await self._find(served, wish)
            except ServingError as error:
                told = describe(error, ERRORS)
                assert told is not None
                result.error.reason, result.error.message = told.reason, told.message
                result.error.metadata.update(told.metadata)
            else:
                answer, _ = self._answer(ranks, request.domain, wish, found)
                result.answer.CopyFrom(answer)
        return response

    def _answer(
        self, served: ServedDomain, domain: str, wish: MatchRequest, result: MatchResult
    ) -> tuple[pb.FindMatchesResponse, MatchResult]:
        """The answer, whose record goes its own way, and the result as it is shown."""
        observe_stages(result.seconds)
        MATCHES.labels(served.head.tier).inc()
        if served.arm.name:
            ARM_MATCHES.labels(served.arm.name).inc()
        self._shadow.offer(current_tenant(), served, wish, result)
        now = self._clock.now()
        match_id = new_match_id(now)
        share, exploration = self._exploration(domain, wish), None
        if share:
            result, exploration = explore(result, match_id, share)
        response = _to_proto(served, result)
        response.match_id = match_id
        scores = next(reversed(result.stage_scores.values()))
        self._exposures.put(
            Exposure(
                match_id=match_id,
                tenant=current_tenant(),
                domain=domain,
                head=served.head.head,
                tier=served.head.tier,
                run_id=served.head.run_id,
                match_time=now,
                seeker=int(result.view.numbers[result.seeker]),
                first_rank=result.first_rank,
                candidates=result.numbers,
                scores=scores,
                exploration=exploration,
                rollout_id=served.arm.rollout_id,
                arm=served.arm.name,
            )
        )
        return response, result

    def _exploration(self, domain: str, wish: MatchRequest) -> float:
        """Share of matches like this one that are explored.

        Later pages are not, nor is what a judge ranks: the gate weighs first pages of heads.
        """
        if wish.after is not None or wish.stages[JUDGE].enabled:
            return 0.0
        return self._registry.explorations.get((current_tenant(), domain), 0.0)

    async def _find(
        self, served: ServedDomain, wish: MatchRequest
    ) -> tuple[ServedDomain, MatchResult]:
        """What ranked for the seeker, and how.

        A challenger that fails costs nobody a first page: the head in use answers, for no arm.
        """
        ranks = served.for_seeker(wish.user_id)
        try:
            return ranks, await self._rank(ranks, wish)
        except Exception as error:
            if isinstance(error, ServingError) or ranks is served:
                raise
            self._journal.failed((current_tenant(), ranks.arm.rollout_id), repr(error))
            if wish.after is not None:
                raise
        plain = dataclasses.replace(served, arm=Arm())
        return plain, await self._rank(plain, wish)

    async def _rank(self, served: ServedDomain, wish: MatchRequest) -> MatchResult:
        loop = asyncio.get_running_loop()
        options = wish.stages[JUDGE]
        if not options.enabled:
            return await loop.run_in_executor(self._executor, find_matches, served, wish)
        assert self._judge is not None
        first = dataclasses.replace(wish, limit=options.top_k)
        result = await loop.run_in_executor(self._executor, find_matches, served, first)
        return await judge_matches(self._judge, served, result, options, wish.limit)

    def _served(self, domain: str) -> ServedDomain:
        if not domain:
            raise FieldInvalidError("domain", "must be given")
        served = self._registry.domains.get((current_tenant(), domain))
        if served is not None:
            return served
        if not self._is_ready():
            raise NotReadyError
        raise DomainNotFoundError(domain)


def _to_proto(served: ServedDomain, result: MatchResult) -> pb.FindMatchesResponse:
    response = pb.FindMatchesResponse(
        pipeline_stats={f"after_{name}": count for name, count in result.counts.items()}
    )
    for name in result.counts:
        if name not in {FILTER, JUDGE}:
            model = response.models_used[name]
            model.tier, model.version = served.head.tier, served.head.head
            if served.arm.name:
                model.arm = served.arm.name
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

"""What serving asks of others: promotions of the scheduler, profiles of the triplet store."""

import asyncio
import dataclasses
from collections.abc import Callable, Sequence

import grpc
import numpy as np
import structlog
from trine.scheduler.v1 import (
    model_catalog_service_pb2,
    model_catalog_service_pb2_grpc,
    promotion_service_pb2,
    promotion_service_pb2_grpc,
    rollout_service_pb2,
    rollout_service_pb2_grpc,
)
from trine.triplets.v1 import (
    exposure_service_pb2,
    exposure_service_pb2_grpc,
    profile_service_pb2,
    profile_service_pb2_grpc,
    schema_pb2,
)

from services.chassis.crashpoint import crashpoint
from services.serving.core.candidates import FieldSpec, Layout, ProfileRows
from services.serving.core.errors import ModelNotFoundError, ModelUnavailableError
from services.serving.core.exposure import Exposure, ExposureLog
from services.serving.core.follow_profiles import ProfileFollower
from services.serving.core.ports import DesiredChallenger, DesiredHead, DesiredModel, HeadName
from services.serving.core.seen import PairRows
from services.serving.core.shadow import TrialJournal

RECONNECT_SECONDS = 0.5
GATHER_SECONDS = 0.2
"""How long exposures gather: one message carries what hundreds of matches have shown."""
DELIVERIES_MAX = 5
REPORT_SECONDS = 0.5
HEADS_MAX = 1_000
"""As many heads as the scheduler is asked about at once."""

_log = structlog.get_logger()

Step = profile_service_pb2.WatchProfilesResponse


class SchedulerModels:
    """The scheduler's word on what models' names stand for."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = model_catalog_service_pb2_grpc.ModelCatalogServiceStub(channel)

    async def get(self, tenant: str, name: str) -> DesiredModel:
        """Returns what a name stands for."""
        request = model_catalog_service_pb2.GetModelRequest(tenant=tenant, model=name)
        try:
            model = (await self._stub.GetModel(request)).model
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.NOT_FOUND:
                raise ModelNotFoundError(name) from None
            raise ModelUnavailableError(name) from error
        return DesiredModel(model.owner, model.head, model.manifest_digest)


class SchedulerPromotions:
    """The scheduler's word on what shall be in use."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = promotion_service_pb2_grpc.PromotionServiceStub(channel)

    async def list(self) -> Sequence[DesiredHead]:
        """Returns every domain with a head, a challenger or an exploration."""
        found: list[DesiredHead] = []
        token = ""
        while True:
            request = promotion_service_pb2.ListPromotedHeadsRequest(page_token=token)
            page = await self._stub.ListPromotedHeads(request)
            found += [_desired(head) for head in page.heads]
            token = page.next_page_token
            if not token:
                return found


class SchedulerGate:
    """The scheduler's word on which heads may rank."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = promotion_service_pb2_grpc.PromotionServiceStub(channel)

    async def unearned(self, heads: Sequence[HeadName]) -> Sequence[HeadName]:
        """Returns those heads that never passed the gate."""
        found: list[HeadName] = []
        for start in range(0, len(heads), HEADS_MAX):
            named = heads[start : start + HEADS_MAX]
            request = promotion_service_pb2.FindUnearnedHeadsRequest(
                heads=[promotion_service_pb2.HeadKey(**name._asdict()) for name in named]
            )
            answer = await self._stub.FindUnearnedHeads(request)
            found += [HeadName(head.tenant, head.head) for head in answer.unearned_heads]
        return found


def _desired(head: promotion_service_pb2.PromotedHead) -> DesiredHead:
    challenger = head.challenger
    return DesiredHead(
        tenant=head.tenant,
        domain=head.domain,
        head=head.head,
        tier=head.tier,
        manifest_digest=head.manifest_digest,
        exploration=head.exploration,
        challenger=DesiredChallenger(
            rollout_id=challenger.rollout_id,
            step=challenger.step,
            share=challenger.share,
            head=challenger.head,
            tier=challenger.tier,
            manifest_digest=challenger.manifest_digest,
        )
        if head.HasField("challenger")
        else None,
    )


async def report_challengers(channel: grpc.aio.Channel, journal: TrialJournal, server: str) -> None:
    """Tells the scheduler what this process sees of challengers, for ever."""
    stub = rollout_service_pb2_grpc.RolloutServiceStub(channel)
    while True:
        await asyncio.sleep(REPORT_SECONDS)
        for key, figures in journal.untold():
            tenant, rollout_id = key
            request = rollout_service_pb2.ReportChallengerRequest(
                tenant=tenant, rollout_id=rollout_id, server=server, **dataclasses.asdict(figures)
            )
            try:
                await stub.ReportChallenger(request)
            except grpc.aio.AioRpcError as error:
                _log.warning("challenger_not_reported", code=error.code().name)
                journal.tell_again(key)


async def send_exposures(channel: grpc.aio.Channel, log: ExposureLog) -> None:
    """Delivers what matches have shown to the triplet store, for ever."""
    stub = exposure_service_pb2_grpc.ExposureServiceStub(channel)
    while True:
        await asyncio.sleep(GATHER_SECONDS)
        exposures = await log.take()
        crashpoint("serving.exposures.taken")
        request = exposure_service_pb2.RecordExposuresRequest(exposures=map(_exposure, exposures))
        for attempt in range(DELIVERIES_MAX):
            try:
                await stub.RecordExposures(request)
                crashpoint("serving.exposures.sent")
                break
            except grpc.aio.AioRpcError as error:
                _log.warning("exposures_not_delivered", code=error.code().name, attempt=attempt)
                await asyncio.sleep(RECONNECT_SECONDS * 2**attempt)
        else:
            log.lose(len(exposures))


def _exposure(exposure: Exposure) -> exposure_service_pb2.RecordExposuresRequest.Exposure:
    message = exposure_service_pb2.RecordExposuresRequest.Exposure(
        match_id=exposure.match_id,
        tenant=exposure.tenant,
        domain=exposure.domain,
        head=exposure.head,
        tier=exposure.tier,
        run_id=exposure.run_id,
        seeker=exposure.seeker,
        first_rank=exposure.first_rank,
        candidates=exposure.candidates.tolist(),
        scores=exposure.scores.tolist(),
        rollout_id=exposure.rollout_id,
        arm=exposure.arm,
    )
    message.match_time.FromDatetime(exposure.match_time)
    if exposure.exploration is not None:
        message.exploration.share = exposure.exploration.share
        message.exploration.explored = exposure.exploration.explored
        message.exploration.ranker_ranks.extend(exposure.exploration.ranker_ranks.tolist())
        message.exploration.propensities.extend(exposure.exploration.propensities.tolist())
    return message


async def follow_profiles(
    channel: grpc.aio.Channel, follower: ProfileFollower, caught_up: Callable[[], None]
) -> None:
    """Applies the triplet store's stream for ever; `caught_up` hears of each full pass."""
    stub = profile_service_pb2_grpc.ProfileServiceStub(channel)
    while True:
        follower.restart()
        request = profile_service_pb2.WatchProfilesRequest(
            cursors=[
                profile_service_pb2.WatchProfilesRequest.Cursor(
                    tenant=tenant, domain=domain, revision=revision
                )
                for (tenant, domain), revision in follower.cursors().items()
            ]
        )
        try:
            async for step in stub.WatchProfiles(request):
                if step.domain:
                    _apply(follower, step)
                else:
                    caught_up()
        except grpc.aio.AioRpcError as error:
            _log.warning("profile_stream_broken", code=error.code().name)
        await asyncio.sleep(RECONNECT_SECONDS)


def _apply(follower: ProfileFollower, step: Step) -> None:
    layout = _layout(step.schema)
    follower.apply(
        (step.tenant, step.domain),
        layout,
        removals=_removals(step.removals) if step.HasField("removals") else None,
        profiles=_profiles(step.profiles, layout) if step.HasField("profiles") else None,
        tallies=_tallies(step.tallies) if step.HasField("tallies") else None,
        pairs=_pairs(step.pairs) if step.HasField("pairs") else None,
        revision=step.revision,
    )


def _layout(schema: schema_pb2.Schema) -> Layout:
    return Layout(
        version=schema.version,
        fields=tuple(
            FieldSpec(field.name, field.kind, field.type, tuple(field.members))
            for field in schema.fields
        ),
        encoder=schema.embedding.encoder,
        dim=schema.embedding.dim,
        reciprocal=schema.reciprocal,
    )


def _removals(message: Step.Removals) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    return np.frombuffer(message.numbers, "<i4")


def _profiles(message: Step.Profiles, layout: Layout) -> ProfileRows:
    numbers = np.frombuffer(message.numbers, "<i4")
    shape = (len(numbers), len(layout.columns))
    return ProfileRows(
        user_ids=message.user_ids,
        numbers=numbers,
        vectors=np.frombuffer(message.vectors, "<f2").reshape(len(numbers), layout.dim),
        columns=np.frombuffer(message.columns, "<f8").reshape(shape),
        strings={name: column.values for name, column in message.strings.items()},
        lists={
            name: (column.values, np.frombuffer(column.counts, "<i4"))
            for name, column in message.lists.items()
        },
        points={
            name: np.frombuffer(points, "<f8").reshape(len(numbers), 2)
            for name, points in message.points.items()
        },
    )


def _tallies(
    message: Step.Tallies,
) -> tuple[
    np.ndarray[tuple[int], np.dtype[np.int32]], np.ndarray[tuple[int, int], np.dtype[np.int32]]
]:
    numbers = np.frombuffer(message.numbers, "<i4")
    return numbers, np.frombuffer(message.counts, "<i4").reshape(len(numbers), 4)


def _pairs(message: Step.Pairs) -> PairRows:
    standing = np.frombuffer(message.standing, np.uint8)
    numbers = np.frombuffer(message.numbers, "<i4").reshape(len(standing), 2)
    return PairRows(numbers, standing, np.frombuffer(message.times, "<i8"))

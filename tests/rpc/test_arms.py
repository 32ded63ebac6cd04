"""Canary and shadow as callers of POST /v1/match meet them, and what is told of them."""

import asyncio
import contextlib
import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from trine.scheduler.v1 import rollout_service_pb2, rollout_service_pb2_grpc

from services.chassis.channel import open_channel
from services.serving.artifacts import ArtifactBundles
from services.serving.clients import report_challengers
from services.serving.core.candidates import Floats
from services.serving.core.loaded_head import Trial, fit_head
from services.serving.core.ports import CANARY, SHADOW, DesiredChallenger
from services.serving.core.shadow import Comparison
from services.serving.core.swap_heads import on_trial
from services.serving.rpc.errors import ERRORS
from tests.support.heads import HeadShelf
from tests.support.matching import AgeScorers
from tests.support.probes import PROBE
from tests.support.server import MESH_TOKEN, free_address, refused, running
from tests.support.serving import Serving, running_serving
from tests.support.signatures import VERIFIER

KEY = ("acme", "dating")
ROLLOUT = "ro_2026_05_17_001"
NAME = "trine.scheduler.v1.RolloutService"


class BrokenScorers(AgeScorers):
    """Cannot map anyone."""

    def map_query(self, columns_c: Floats, vector_d: Floats) -> Floats:
        raise RuntimeError("no such input")


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    async with running_serving() as made:
        yield made


async def challenge(serving: Serving, step: str = CANARY, share: float = 0.5) -> str:
    """Puts a head on trial beside the encoder; returns its name."""
    shelf, served = HeadShelf(), serving.registry.domains[KEY]
    stored = await shelf.store()
    bundle = await ArtifactBundles(shelf.artifacts, VERIFIER, PROBE).load(stored)
    head = fit_head(bundle, served.partition.layout)
    desired = DesiredChallenger(ROLLOUT, step, share, head.head, "tenant", stored.manifest_digest)
    trial = Trial(desired, dataclasses.replace(served, head=head))
    serving.registry.put(KEY, on_trial(served, trial))
    return head.head


async def seekers(serving: Serving) -> dict[str, str]:
    """One seeker of each arm."""
    found: dict[str, str] = {}
    for number in range(30):
        answer = await serving.match(f"u{number}", limit=1)
        found.setdefault(answer.models_used["embedding"].arm, f"u{number}")
    assert set(found) == {"challenger", "incumbent"}
    return found


def breaks(serving: Serving) -> None:
    """The challenger fails from now on."""
    served = serving.registry.domains[KEY]
    assert served.trial is not None
    ranks = served.trial.challenger
    head = dataclasses.replace(ranks.head, scorers=BrokenScorers())
    trial = Trial(served.trial.desired, dataclasses.replace(ranks, head=head))
    serving.registry.put(KEY, on_trial(served, trial))


async def test_outside_of_a_canary_nobody_has_an_arm(serving: Serving) -> None:
    await challenge(serving, SHADOW)
    answer = await serving.match()
    assert not answer.models_used["embedding"].HasField("arm")
    (exposure,) = await serving.exposures.take()
    assert (exposure.rollout_id, exposure.arm) == ("", "")


async def test_the_arm_is_in_the_answer_and_in_its_record(serving: Serving) -> None:
    head = await challenge(serving)
    arms = await seekers(serving)
    await serving.exposures.take()
    for arm, user_id in arms.items():
        answer = await serving.match(user_id)
        version = head if arm == "challenger" else "test"
        used = {(m.version, m.arm) for m in answer.models_used.values()}
        assert used == {(version, arm)}
    batch = await serving.match_all(*arms.values())
    told = [r.answer.models_used["embedding"].arm for r in batch.results]
    assert told == list(arms)
    exposures = await serving.exposures.take()
    assert [(e.rollout_id, e.arm) for e in exposures] == [(ROLLOUT, arm) for arm in arms] * 2
    assert {e.head for e in exposures if e.arm == "challenger"} == {head}


async def test_pages_go_on_with_the_seekers_arm(serving: Serving) -> None:
    await challenge(serving)
    for user_id in (await seekers(serving)).values():
        whole = await serving.match(user_id, limit=6)
        first = await serving.match(user_id, limit=3)
        second = await serving.match(user_id, limit=3, page_token=first.next_page_token)
        shown = [match.user_id for match in (*first.matches, *second.matches)]
        assert shown == [match.user_id for match in whole.matches]


async def test_a_challenger_that_fails_costs_nobody_an_answer(serving: Serving) -> None:
    await challenge(serving)
    arms = await seekers(serving)
    page = await serving.match(arms["challenger"], limit=3)
    breaks(serving)
    serving.journal.untold()
    await serving.exposures.take()
    answer = await serving.match(arms["challenger"])
    assert answer.models_used["embedding"].version == "test"
    assert not answer.models_used["embedding"].HasField("arm")
    (exposure,) = await serving.exposures.take()
    assert (exposure.rollout_id, exposure.arm) == ("", "")
    ((key, figures),) = serving.journal.untold()
    assert (key, figures.errors_count) == (("acme", ROLLOUT), 1)
    assert "no such input" in figures.error
    refusal = await refused(
        serving.match(arms["challenger"], limit=3, page_token=page.next_page_token)
    )
    assert refusal.reason == "INTERNAL"  # a later page of an order that is not there any more
    refusal = await refused(serving.match("stranger"))
    assert refusal.reason == "USER_NOT_FOUND"


async def test_an_answer_does_not_wait_for_the_challenger(serving: Serving) -> None:
    await challenge(serving, SHADOW, 1.0)
    breaks(serving)
    for _ in range(2):
        assert (await serving.match()).models_used["embedding"].version == "test"
    assert serving.journal.untold() == []  # nobody ranks here: both wait
    for _ in range(2):
        await serving.shadow.rank(serving.shadow._waiting.get_nowait())
    ((_, figures),) = serving.journal.untold()
    assert figures.errors_count == 2


class Reports(rollout_service_pb2_grpc.RolloutServiceServicer):
    """A scheduler that fails at the first report."""

    def __init__(self) -> None:
        self.received: list[rollout_service_pb2.ReportChallengerRequest] = []
        self.twice = asyncio.Event()

    async def ReportChallenger(self, request: Any, context: Any) -> Any:
        self.received.append(request)
        if len(self.received) == 1:
            raise RuntimeError
        self.twice.set()
        return rollout_service_pb2.ReportChallengerResponse()


async def test_what_is_seen_of_a_challenger_is_told_even_at_the_second_try(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.serving.clients.REPORT_SECONDS", 0)
    reports = Reports()  # type: ignore[abstract]  # nothing else is called
    address = free_address()

    def add(server: grpc.aio.Server) -> None:
        rollout_service_pb2_grpc.add_RolloutServiceServicer_to_server(reports, server)

    serving.journal.compared(("acme", ROLLOUT), Comparison(0.5, 0.25, 0.2, 0.1))
    async with (
        running(ERRORS, add, [NAME], address),
        open_channel(address, MESH_TOKEN) as channel,
    ):
        task = asyncio.create_task(report_challengers(channel, serving.journal, "s1"))
        await asyncio.wait_for(reports.twice.wait(), 5)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    told = reports.received[1]
    assert (told.tenant, told.rollout_id, told.server) == ("acme", ROLLOUT, "s1")
    assert (told.matches_count, told.overlap_sum, told.incumbent_seconds_sum) == (1, 0.5, 0.1)

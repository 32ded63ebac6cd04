"""What matches showed: logged beside the answers, delivered, kept, and read by its tenant."""

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import pytest
from trine.triplets.v1 import exposure_service_pb2, exposure_service_pb2_grpc

from services.chassis.channel import open_channel
from services.chassis.database import EVERYONE, Database
from services.serving.clients import send_exposures
from services.serving.core.exposure import ExposureLog
from services.triplets.core.exposure import KEEP_DAYS
from services.triplets.core.report_outcomes import OutcomeDraft, check_drafts, report_outcomes
from services.triplets.postgres import MIGRATIONS, PostgresTripletStore
from services.triplets.postgres.exposures import PostgresExposureStore
from services.triplets.rpc.errors import ERRORS
from services.triplets.wiring import add_exposures
from tests.support.domains import DOMAIN, SCHEMA, TENANT, add_users
from tests.support.infrastructure import Servers
from tests.support.server import ACME, MESH, MESH_TOKEN, OTHER, free_address, refused, running
from tests.support.serving import Serving, running_serving

NAME = "trine.triplets.v1.ExposureService"
NOW = datetime.datetime.now(datetime.UTC)


class Kept:
    """The store behind its service, with a domain of acme's and three people."""

    def __init__(self, database: Database, channel: grpc.aio.Channel) -> None:
        self.database = database
        self.stub = exposure_service_pb2_grpc.ExposureServiceStub(channel)

    async def record(self, match_id: str = "m1", **content: Any) -> Any:
        """Records one match."""
        known: dict[str, Any] = {"tenant": TENANT, "domain": DOMAIN, "head": "h1", "tier": "tenant"}
        known |= {"run_id": "tr_1", "seeker": 0, "first_rank": 1}
        request = exposure_service_pb2.RecordExposuresRequest()
        exposure = request.exposures.add(match_id=match_id, **(known | content))
        exposure.match_time.FromDatetime(NOW)
        return await self.stub.RecordExposures(request, metadata=MESH)

    def get(self, match_id: str = "m1", metadata: Any = ACME) -> Any:
        """Reads one match."""
        request = exposure_service_pb2.GetExposureRequest(match_id=match_id)
        return self.stub.GetExposure(request, metadata=metadata)


@pytest.fixture
async def kept(servers: Servers) -> AsyncIterator[Kept]:
    async with (
        servers.schema() as schema,
        servers.migrated(schema, MIGRATIONS) as database,
    ):
        store = PostgresTripletStore(database)
        await store.create_domain(TENANT, SCHEMA)
        await add_users(store, ["ada", "bob", "cleo"])
        exposures = PostgresExposureStore(database)
        async with running(ERRORS, lambda s: add_exposures(s, exposures), [NAME]) as channel:
            yield Kept(database, channel)


async def test_a_match_is_read_as_it_was_recorded(kept: Kept) -> None:
    await kept.record(candidates=[2, 1], scores=[0.75, 0.5], first_rank=11)
    found = await kept.get()
    assert (found.match_id, found.domain, found.user_id) == ("m1", DOMAIN, "ada")
    assert (found.head, found.tier, found.run_id) == ("h1", "tenant", "tr_1")
    assert found.match_time.ToDatetime(datetime.UTC) == NOW
    shown = [(s.user_id, s.rank, s.score) for s in found.shown]
    assert shown == [("cleo", 11, 0.75), ("bob", 12, 0.5)]


async def test_without_exploration_the_rankers_order_is_certain(kept: Kept) -> None:
    await kept.record(candidates=[2, 1], scores=[0.75, 0.5])
    found = await kept.get()
    assert (found.exploration, found.explored) == (0.0, False)
    assert [(s.ranker_rank, s.propensity) for s in found.shown] == [(1, 1.0), (2, 1.0)]


async def test_an_explored_match_says_where_the_ranker_had_put_each(kept: Kept) -> None:
    order = {"share": 0.5, "explored": True, "ranker_ranks": [2, 1], "propensities": [0.25, 0.25]}
    await kept.record(candidates=[1, 2], scores=[0.5, 0.75], exploration=order)
    found = await kept.get()
    assert (found.exploration, found.explored) == (0.5, True)
    shown = [(s.user_id, s.rank, s.ranker_rank, s.propensity, s.score) for s in found.shown]
    assert shown == [("bob", 1, 2, 0.25, 0.5), ("cleo", 2, 1, 0.25, 0.75)]


async def test_a_repeat_changes_nothing_and_an_unknown_domain_is_left_out(kept: Kept) -> None:
    await kept.record(candidates=[1], scores=[0.5])
    await kept.record(candidates=[2], scores=[0.1])
    assert [s.user_id for s in (await kept.get()).shown] == ["bob"]
    await kept.record("m2", domain="nowhere")
    assert (await refused(kept.get("m2"))).reason == "MATCH_NOT_FOUND"


async def test_whoever_is_not_there_any_more_is_not_named(kept: Kept) -> None:
    await kept.record(candidates=[1, 77, 2], scores=[0.9, 0.8, 0.7], seeker=78)
    found = await kept.get()
    assert found.user_id == ""
    assert [(s.user_id, s.rank) for s in found.shown] == [("bob", 1), ("cleo", 3)]


async def test_a_match_is_its_tenants_alone(kept: Kept) -> None:
    await kept.record()
    refusal = await refused(kept.get(metadata=OTHER))
    assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "MATCH_NOT_FOUND")
    assert refusal.metadata == {"field": "match_id", "match_id": "m1"}


@pytest.mark.parametrize("match_id", ["", "m" * 65, "a\0b"])
async def test_an_id_that_no_match_has_is_refused(kept: Kept, match_id: str) -> None:
    refusal = await refused(kept.get(match_id))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "match_id")


async def test_recording_is_the_meshs_alone_and_bounded(kept: Kept) -> None:
    request = exposure_service_pb2.RecordExposuresRequest()
    refusal = await refused(kept.stub.RecordExposures(request, metadata=ACME))
    assert refusal.reason == "INTERNAL_RPC"
    refusal = await refused(kept.stub.RecordExposures(request, metadata=MESH))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "exposures")


@pytest.mark.parametrize("first_rank", [0, -1, 2**31 - 2])
async def test_a_rank_that_is_none_is_refused_before_it_is_kept(
    kept: Kept, first_rank: int
) -> None:
    shown: dict[str, Any] = {"candidates": [1, 2], "scores": [0.7, 0.6], "first_rank": first_rank}
    refusal = await refused(kept.record(**shown))
    assert refusal.metadata["field"] == "exposures.first_rank"
    await kept.record(**(shown | {"first_rank": 2**31 - 3}))
    assert [one.rank for one in (await kept.get()).shown] == [2**31 - 3, 2**31 - 2]


async def test_what_is_old_is_forgotten(kept: Kept) -> None:
    await kept.record("m1")
    await kept.record("m2")
    old = NOW - datetime.timedelta(days=KEEP_DAYS, minutes=1)
    await kept.database.of(EVERYONE).execute(
        "update exposures set match_time = $1 where match_id = 'm1'", old
    )
    await PostgresExposureStore(kept.database).prune()
    assert (await refused(kept.get("m1"))).reason == "MATCH_NOT_FOUND"
    assert (await kept.get("m2")).match_id == "m2"


async def say(kept: Kept, *words: tuple[str, str, str, str, int]) -> None:
    """Outcomes: seeker, candidate, what, of which match, on which day."""
    drafts = [
        OutcomeDraft(
            seeker_id=seeker,
            candidate_id=candidate,
            label=label,
            weight=None,
            occurred_at=NOW - datetime.timedelta(days=30 - day),
            match_id=match_id,
        )
        for seeker, candidate, label, match_id, day in words
    ]
    store = PostgresTripletStore(kept.database)
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await report_outcomes(unit, drafts, check_drafts(drafts, NOW))


async def arms(kept: Kept, rollout_id: str = "ro_1", domain: str = DOMAIN) -> dict[str, Any]:
    """The arms of a rollout by their names."""
    request = exposure_service_pb2.CountArmsRequest(
        tenant=TENANT, domain=domain, rollout_id=rollout_id
    )
    response = await kept.stub.CountArms(request, metadata=MESH)
    return {arm.arm: arm for arm in response.arms}


async def test_the_rollout_and_the_arm_of_a_match_are_kept(kept: Kept) -> None:
    await kept.record(candidates=[1], scores=[0.5], rollout_id="ro_1", arm="challenger")
    found = await kept.get()
    assert (found.rollout_id, found.arm) == ("ro_1", "challenger")


async def test_outcomes_count_for_the_arm_whose_match_they_name(kept: Kept) -> None:
    shown: dict[str, Any] = {"scores": [0.9, 0.1], "rollout_id": "ro_1"}
    await kept.record("m1", seeker=0, candidates=[1, 2], arm="challenger", **shown)
    await kept.record("m2", seeker=1, candidates=[0, 2], arm="incumbent", **shown)
    await kept.record("m3", seeker=2, candidates=[0, 1], arm="incumbent", **shown)
    await kept.record("m4", seeker=0, candidates=[1, 2], scores=[0.9, 0.1])  # of no rollout
    await say(
        kept,
        ("ada", "bob", "accepted", "m1", 3),
        ("ada", "bob", "rejected", "m1", 2),  # an earlier word
        ("ada", "cleo", "expired", "m1", 1),
        ("bob", "ada", "accepted", "m2", 1),
        ("bob", "ada", "retracted", "m2", 2),
        ("cleo", "ada", "converted", "m3", 1),
        ("cleo", "bob", "accepted", "m1", 1),  # another's match
        ("cleo", "bob", "rejected", "m4", 2),
        ("bob", "cleo", "accepted", "", 1),  # of none
    )
    found = await arms(kept)
    challenger, incumbent = found["challenger"], found["incumbent"]
    assert (challenger.matches_count, incumbent.matches_count) == (1, 2)
    assert (challenger.outcomes_count, challenger.positives_count) == (2, 1)
    assert (challenger.seekers_count, incumbent.seekers_count) == (1, 1)
    sums = ("outcomes_squared_sum", "products_sum", "positives_squared_sum")
    assert [getattr(challenger, name) for name in sums] == [4, 2, 1]
    assert (incumbent.outcomes_count, incumbent.positives_count) == (1, 1)
    assert await arms(kept, "ro_2") == await arms(kept, "") == await arms(kept, domain="x") == {}


async def test_only_who_was_shown_counts_and_once(kept: Kept) -> None:
    shown: dict[str, Any] = {"scores": [0.5], "rollout_id": "ro_1", "arm": "incumbent"}
    await say(kept, ("ada", "bob", "accepted", "m1", 1))  # before the record of its match
    await kept.record("m1", candidates=[1], **shown)
    await say(
        kept,
        ("ada", "bob", "accepted", "m1", 1),
        ("ada", "cleo", "accepted", "m1", 1),
    )
    found = (await arms(kept))["incumbent"]
    assert (found.outcomes_count, found.positives_count) == (1, 1)


async def test_counting_arms_is_the_meshs_alone(kept: Kept) -> None:
    request = exposure_service_pb2.CountArmsRequest()
    refusal = await refused(kept.stub.CountArms(request, metadata=ACME))
    assert refusal.reason == "INTERNAL_RPC"


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    async with running_serving() as made:
        yield made


async def test_every_answer_leaves_an_exposure(serving: Serving) -> None:
    head = await serving.load()
    first = await serving.match(limit=3)
    second = await serving.match(limit=3, page_token=first.next_page_token)
    batch = await serving.match_all("u1", "stranger", "u2", limit=1)
    exposures = await serving.exposures.take()
    answers = [first, second, batch.results[0].answer, batch.results[2].answer]
    assert [e.match_id for e in exposures] == [answer.match_id for answer in answers]
    assert [e.first_rank for e in exposures] == [1, 4, 1, 1]
    assert [e.seeker for e in exposures] == [0, 0, 1, 2]
    for exposure, answer in zip(exposures, answers, strict=True):
        assert [f"u{number}" for number in exposure.candidates] == [
            match.user_id for match in answer.matches
        ]
        assert exposure.scores.tolist() == [match.score for match in answer.matches]
        assert (exposure.tenant, exposure.domain, exposure.head) == ("acme", "dating", head)
        assert (exposure.tier, exposure.run_id) == ("tenant", serving.run_id)


async def test_exploration_is_of_first_pages_and_loses_nobody(serving: Serving) -> None:
    await serving.load()
    plain = [m.user_id for m in (await serving.match(limit=6)).matches]
    serving.registry.explorations = {("acme", "dating"): 1.0}
    first = await serving.match(limit=3, explain=True)
    second = await serving.match(limit=3, page_token=first.next_page_token)
    batch = (await serving.match_all("u0", limit=3)).results[0].answer
    judged = await serving.match(limit=3, stages={"llm_judge": True})
    assert {m.user_id for m in first.matches} == set(plain[:3])
    assert [m.user_id for m in second.matches] == plain[3:]
    assert {m.user_id for m in batch.matches} == set(plain[:3])
    for match in first.matches:  # what is explained is whom the page shows
        assert match.explanation.score == pytest.approx(match.score, abs=1e-5)
    exposures = await serving.exposures.take()
    explorations = {e.match_id: e.exploration for e in exposures}
    for answer in (first, batch):
        exploration = explorations[answer.match_id]
        assert exploration is not None
        assert (exploration.share, exploration.explored) == (1.0, True)
        assert [plain[rank - 1] for rank in exploration.ranker_ranks] == [
            m.user_id for m in answer.matches
        ]
        assert exploration.propensities.tolist() == pytest.approx([1 / 3] * 3)
    assert explorations[second.match_id] is None
    assert explorations[judged.match_id] is None


async def test_another_domains_matches_are_not_explored(serving: Serving) -> None:
    serving.registry.explorations = {("acme", "hiring"): 1.0, ("globex", "dating"): 1.0}
    await serving.match(limit=3)
    (exposure,) = await serving.exposures.take()
    assert exposure.exploration is None


async def test_a_full_log_costs_no_match(serving: Serving) -> None:
    serving.exposures._rows_max = 12
    assert len((await serving.match()).matches) == 10
    assert len((await serving.match()).matches) == 10
    assert serving.dropped == 1


class FlakyStore(exposure_service_pb2_grpc.ExposureServiceServicer):
    """Fails at the first call."""

    def __init__(self) -> None:
        self.received: list[exposure_service_pb2.RecordExposuresRequest] = []

    async def GetExposure(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def CountArms(self, request: Any, context: Any) -> Any:
        raise NotImplementedError

    async def RecordExposures(self, request: Any, context: Any) -> Any:
        self.received.append(request)
        if len(self.received) == 1:
            raise RuntimeError
        return exposure_service_pb2.RecordExposuresResponse()


async def until(is_so: Callable[[], bool]) -> None:
    """Returns when something is so, or after five seconds."""
    for _ in range(500):
        if is_so():
            return
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def delivering(channel: grpc.aio.Channel, log: ExposureLog) -> AsyncIterator[None]:
    """Delivers while the block runs."""
    task = asyncio.create_task(send_exposures(channel, log))
    yield
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Deliveries without pauses."""
    monkeypatch.setattr("services.serving.clients.GATHER_SECONDS", 0)
    monkeypatch.setattr("services.serving.clients.RECONNECT_SECONDS", 0)


@pytest.mark.usefixtures("at_once")
async def test_exposures_are_delivered_even_at_the_second_try(serving: Serving) -> None:
    store = FlakyStore()

    def add(server: grpc.aio.Server) -> None:
        exposure_service_pb2_grpc.add_ExposureServiceServicer_to_server(store, server)

    serving.registry.explorations = {("acme", "dating"): 1.0}
    answer = await serving.match(limit=2)
    address = free_address()
    async with (
        running(ERRORS, add, [NAME], address),
        open_channel(address, MESH_TOKEN) as channel,
        delivering(channel, serving.exposures),
    ):
        await until(lambda: len(store.received) == 2)
    (exposure,) = store.received[1].exposures
    assert exposure.match_id == answer.match_id
    assert [f"u{number}" for number in exposure.candidates] == [m.user_id for m in answer.matches]
    assert exposure.exploration.propensities == [0.5, 0.5]
    assert sorted(exposure.exploration.ranker_ranks) == [1, 2]
    assert serving.dropped == 0


@pytest.mark.usefixtures("at_once")
async def test_what_cannot_be_delivered_is_counted(serving: Serving) -> None:
    await serving.match(limit=2)
    async with (
        grpc.aio.insecure_channel(free_address()) as nobody,
        delivering(nobody, serving.exposures),
    ):
        await until(lambda: serving.dropped > 0)
    assert serving.dropped == 1

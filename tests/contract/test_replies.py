"""First answers, kept in the transaction of their effect by every store that takes request ids."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator

import pytest
from trine.scheduler.v1.training_service_pb2 import TrainDomainRequest

from services.chassis.replies import (
    PostgresReplies,
    Replies,
    RequestIdInvalidError,
    RequestIdReusedError,
    RequestKey,
    prune_replies,
    request_key,
)
from services.triplets.postgres import MIGRATIONS
from tests.support.domains import open_triplet_store
from tests.support.faults import DeliberateError, act_and_fail
from tests.support.infrastructure import Servers
from tests.support.replies import Answering, answering_scheduler, answering_triplets
from tests.support.runs import open_scheduler

KEY = RequestKey("acme", "request-1", b"\x00\xff fingerprint")
OTHER_BODY = dataclasses.replace(KEY, fingerprint=b"another")


@pytest.fixture(
    params=["scheduler-memory", "scheduler-postgres", "triplets-memory", "triplets-postgres"]
)
async def answering(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[Answering]:
    service, kind = request.param.split("-")
    if service == "scheduler":
        async with open_scheduler(kind, servers) as setting:
            yield answering_scheduler(setting.store)
        return
    async with open_triplet_store(kind, servers) as store:
        yield await answering_triplets(store)


async def answer(answering: Answering, key: RequestKey, reply: bytes) -> bytes:
    """Answers as a servicer does: acts only if the request is new."""
    async with answering.open(key.tenant) as unit:
        known = await unit.recall(key)
        if known is None:
            await answering.change(unit)
            await unit.remember(key, reply)
    return reply if known is None else known


async def test_a_repeated_request_gets_the_first_answer_and_changes_nothing(
    answering: Answering,
) -> None:
    first = b"\x00 the first \xff"
    assert await answer(answering, KEY, first) == first
    assert await answer(answering, KEY, b"a second") == first
    assert await answer(answering, KEY, b"a third") == first
    assert await answering.count() == 1


async def test_an_empty_answer_is_an_answer(answering: Answering) -> None:
    assert await answer(answering, KEY, b"") == b""
    assert await answer(answering, KEY, b"a second") == b""
    assert await answering.count() == 1


async def test_another_request_under_the_same_id_is_refused(answering: Answering) -> None:
    await answer(answering, KEY, b"the first")
    with pytest.raises(RequestIdReusedError) as caught:
        await answer(answering, OTHER_BODY, b"a second")
    assert caught.value.metadata == {"request_id": "request-1"}
    assert await answering.count() == 1
    assert await answer(answering, KEY, b"a third") == b"the first"


async def test_what_was_answered_about_somebody_is_forgotten_and_its_id_used_up(
    answering: Answering,
) -> None:
    keys = [dataclasses.replace(KEY, request_id=f"request-{number}") for number in range(4)]
    whom = ["dating/ada", "dating/ada", "dating/bob", ""]
    async with answering.open(KEY.tenant) as unit:
        for key, about in zip(keys, whom, strict=True):
            assert await unit.recall(key) is None
            await unit.remember(key, b"the first", about)
        await unit.forget("globex", "dating/bob")
        await unit.forget("acme", "")
    async with answering.open(KEY.tenant) as unit:
        await unit.forget("acme", "dating/ada")
    for key in keys[:2]:
        with pytest.raises(RequestIdReusedError):
            await answer(answering, key, b"a second")
    for key in keys[2:]:
        assert await answer(answering, key, b"a second") == b"the first"


async def test_ids_belong_to_their_tenant(answering: Answering) -> None:
    await answer(answering, KEY, b"for acme")
    globex = dataclasses.replace(OTHER_BODY, tenant="globex")
    assert await answer(answering, globex, b"for globex") == b"for globex"
    other = dataclasses.replace(OTHER_BODY, request_id="request-2")
    assert await answer(answering, other, b"another") == b"another"
    assert await answering.count() == 3


async def test_a_unit_that_fails_forgets_that_the_id_was_taken(answering: Answering) -> None:
    async def act(unit: Replies) -> None:
        assert await unit.recall(KEY) is None
        await answering.change(unit)
        await unit.remember(KEY, b"never given")

    with pytest.raises(DeliberateError):
        await act_and_fail(answering.open(KEY.tenant), act)
    assert await answering.count() == 0
    assert await answer(answering, OTHER_BODY, b"the first") == b"the first"
    assert await answering.count() == 1


async def test_ten_requests_with_one_id_at_once_have_one_effect_and_one_answer(
    answering: Answering,
) -> None:
    replies = await asyncio.gather(
        *(answer(answering, KEY, f"answer {index}".encode()) for index in range(10))
    )
    assert len(set(replies)) == 1
    assert await answering.count() == 1


async def test_who_waits_for_a_request_that_fails_acts_in_its_place(answering: Answering) -> None:
    claimed, going_on = asyncio.Event(), asyncio.Event()

    async def act(unit: Replies) -> None:
        assert await unit.recall(KEY) is None
        await answering.change(unit)
        claimed.set()
        await going_on.wait()

    failing = asyncio.create_task(act_and_fail(answering.open(KEY.tenant), act))
    await claimed.wait()
    waiting = asyncio.create_task(answer(answering, KEY, b"the second"))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    going_on.set()
    with pytest.raises(DeliberateError):
        await failing
    assert await waiting == b"the second"
    assert await answering.count() == 1


@pytest.mark.parametrize("request_id", ["a" * 255, "naïve 🙂", "\x01", "a\0b"])
async def test_an_id_that_passes_the_checks_is_one_that_can_be_kept(
    answering: Answering, request_id: str
) -> None:
    request = TrainDomainRequest(request_id=request_id)
    try:
        key = request_key("TrainDomain", "acme", request, {})
    except RequestIdInvalidError:
        assert not request_id.isprintable()
    else:
        assert key is not None
        assert [await answer(answering, key, reply) for reply in (b"1", b"2")] == [b"1", b"1"]


async def test_answers_are_kept_for_a_day(servers: Servers, schema: str) -> None:
    async with servers.migrated(schema, MIGRATIONS) as database:
        old = dataclasses.replace(KEY, request_id="old")
        for key in (KEY, old):
            async with database.begin(key.tenant) as connection:
                await PostgresReplies(connection).recall(key)
                await PostgresReplies(connection).remember(key, b"kept")
        age = "update replies set create_time = now() - make_interval(hours => $1, mins => $2)"
        await database.of(KEY.tenant).execute(f"{age} where request_id = 'request-1'", 23, 59)
        await database.of(KEY.tenant).execute(f"{age} where request_id = 'old'", 24, 1)
        await prune_replies(database)
        async with database.begin(KEY.tenant) as connection:
            assert await PostgresReplies(connection).recall(KEY) == b"kept"
            assert await PostgresReplies(connection).recall(old) is None

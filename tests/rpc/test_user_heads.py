"""From a person to the heads that learned from them, as callers ask."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from trine.scheduler.v1 import head_service_pb2 as pb

from services.scheduler.core.ports import UserSnapshot
from tests.support.scheduler import Scheduler, open_service
from tests.support.server import ACME, OTHER, refused

DIGESTS = [letter * 64 for letter in "abcd"]


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_service() as opened:
        yield opened


def ask(scheduler: Scheduler, user_id: str, metadata: Any = ACME, **asked: Any) -> Any:
    """Calls ListUserHeads."""
    request = pb.ListUserHeadsRequest(user_id=user_id, **asked)
    return scheduler.heads_stub().ListUserHeads(request, metadata=metadata)


async def test_heads_are_told_page_by_page_newest_first(scheduler: Scheduler) -> None:
    runs = [await scheduler.trained(learned_from=digest) for digest in DIGESTS[:3]]
    scheduler.triplets.snapshots["acme", "ada"] = [
        UserSnapshot("dating", DIGESTS[2], erased=False),
        UserSnapshot("dating", DIGESTS[0], erased=True),
        UserSnapshot("hiring", DIGESTS[1], erased=False),  # of another domain that is alike
        UserSnapshot("dating", DIGESTS[3], erased=False),  # nothing came of it
    ]
    found = list((await ask(scheduler, "ada")).heads)
    assert [(one.run_id, one.snapshot_digest, one.erased) for one in found] == [
        (runs[2], DIGESTS[2], False),
        (runs[0], DIGESTS[0], True),
    ]
    assert [(one.head, one.domain, one.tier, one.promoted) for one in found] == [
        (f"u_acme.dating.2026-05-17.00{number}", "dating", "tenant", number == 3)
        for number in (3, 1)
    ]
    assert all(one.HasField("create_time") for one in found)
    first = await ask(scheduler, "ada", page_size=1)
    assert list(first.heads) == found[:1]
    last = await ask(scheduler, "ada", page_token=first.next_page_token)
    assert (list(last.heads), last.next_page_token) == (found[1:], "")
    assert list((await ask(scheduler, "ada", domain="dating")).heads) == found
    assert list((await ask(scheduler, "ada", domain="hiring")).heads) == []


async def test_heads_of_nobody_are_refused(scheduler: Scheduler) -> None:
    scheduler.triplets.snapshots["acme", "ada"] = []
    assert list((await ask(scheduler, "ada")).heads) == []
    for user_id, metadata in (("eve", ACME), ("ada", OTHER)):
        refusal = await refused(ask(scheduler, user_id, metadata))
        assert (refusal.reason, refusal.metadata["field"]) == ("USER_NOT_FOUND", "user_id")
    assert (await refused(ask(scheduler, "ada", domain="x"))).reason == "DOMAIN_NOT_FOUND"

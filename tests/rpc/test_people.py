"""People as callers meet them: contexts appended, values with their origin, erasure."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load
from trine.triplets.v1 import (
    profile_service_pb2,
    profile_service_pb2_grpc,
    snapshot_service_pb2,
    snapshot_service_pb2_grpc,
    user_pb2,
)

from services.triplets.core.context import CONTEXTS_MAX
from tests.support.server import MESH, OTHER, refused
from tests.support.triplets import Store, open_store, outcome


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store() as opened:
        await opened.fill()
        yield opened


async def test_a_context_is_appended_and_read_by_the_encoder(store: Store) -> None:
    await store.upsert("u_ann", context="Sails.", fields={"age": 31, "about": "Loves art."})
    before = await store.get("u_ann")
    first = await store.append("u_ann", "Bought a boat.", source="chat")
    assert (first.user_id, first.domain) == ("u_ann", "dating")
    assert first.context_id.startswith("ctx_")
    assert (list(first.fields_updated), first.embeddings_refreshed) == ([], True)
    old = {"occurred_at": "2020-01-01T00:00:00Z"}
    assert (await store.append("u_ann", "Sold a car.", **old)).context_id != first.context_id
    assert store.encoder.texts[-1] == "Loves art.\nBought a boat.\nSold a car.\nSails."
    after = await store.get("u_ann")
    assert after.last_enriched_at.ToNanoseconds() > before.last_enriched_at.ToNanoseconds()


async def test_the_vector_is_refreshed_exactly_when_it_changes(store: Store) -> None:
    long = {"occurred_at": "2020-01-01T00:00:00Z"}
    assert (await store.append("u0", "x" * 19_000)).embeddings_refreshed
    assert not (await store.append("u0", "y" * 2_000, **long)).embeddings_refreshed
    await store.put_schema(domain="own", embedding={"encoder": "caller", "dim": 2})
    await store.upsert("u0", domain="own", fields={"age": 3}, vector=[1, 0])
    assert not (await store.append("u0", "Sails.", domain="own")).embeddings_refreshed


async def test_an_upsert_replaces_what_was_appended(store: Store) -> None:
    await store.append("u0", "Bought a boat.")
    await store.upsert("u0", fields={"age": 3}, context="Sails.")
    await store.append("u0", "Hikes.")
    assert store.encoder.texts[-1] == "Hikes.\nSails."


async def test_a_repeated_context_is_appended_once(store: Store) -> None:
    first = await store.append("u0", "Sails.", request_id="c1")
    assert await store.append("u0", "Sails.", request_id="c1") == first
    await store.append("u0", "Hikes.")
    assert store.encoder.texts[-1] == "Hikes.\nSails."


async def test_contexts_that_race_are_all_read_in_the_end(store: Store) -> None:
    answers = await asyncio.gather(*(store.append("u0", f"text {n}") for n in range(6)))
    assert len({answer.context_id for answer in answers}) == 6
    await store.append("u0", "last")
    texts = store.encoder.texts[-1].split("\n")
    assert sorted(texts) == ["last", *(f"text {n}" for n in range(6))]


async def test_of_many_contexts_the_newest_are_kept(store: Store) -> None:
    for number in range(CONTEXTS_MAX + 2):
        await store.append("u0", f"text {number}")
    texts = store.encoder.texts[-1].split("\n")
    assert (len(texts), texts[0], texts[-1]) == (CONTEXTS_MAX, "text 101", "text 2")


@pytest.mark.parametrize(
    ("content", "reason", "field"),
    [
        ({"content": "  "}, "FIELD_INVALID", "content"),
        ({"content": "x" * 20_001}, "FIELD_INVALID", "content"),
        ({"content": "a\0b"}, "FIELD_INVALID", "content"),
        ({"source": "x" * 65}, "FIELD_INVALID", "source"),
        ({"occurred_at": "9999-01-01T00:00:00Z"}, "FIELD_INVALID", "occurred_at"),
        ({"user_id": "nobody"}, "USER_NOT_FOUND", "user_id"),
        ({"domain": "hiring"}, "DOMAIN_NOT_FOUND", None),
        ({"metadata": OTHER}, "DOMAIN_NOT_FOUND", None),
    ],
)
async def test_a_broken_context_is_refused(
    store: Store, content: dict[str, object], reason: str, field: str | None
) -> None:
    whole = {"user_id": "u0", "content": "Sails."} | content
    refusal = await refused(store.append(**whole))  # type: ignore[arg-type]  # as parametrized
    assert (refusal.reason, refusal.metadata.get("field")) == (reason, field)


async def test_every_value_says_where_it_comes_from(store: Store) -> None:
    user = await store.upsert("u0", fields={"age": 3, "taste": 0.5, "city": None})
    assert {name: p.source for name, p in user.provenance.items()} == {
        "age": "fields",
        "taste": "fields",
    }
    await store.append("u0", "Sails.")
    assert (await store.get("u0")).provenance["age"] == user.provenance["age"]


async def test_without_a_domain_a_person_is_read_in_all(store: Store) -> None:
    await store.put_schema(domain="art", embedding={"encoder": "caller", "dim": 2})
    await store.upsert("u0", domain="art", fields={"age": 9}, vector=[1, 0])
    await store.upsert("u0", fields={"age": 3}, context="Sails.")
    user: user_pb2.User = await store.get("u0", domain="")
    assert (user.user_id, user.domain) == ("u0", "")
    assert [one.domain for one in user.domains] == ["art", "dating"]
    assert list(user.domains) == [await store.get("u0", domain=d) for d in ("art", "dating")]
    assert {domain: e.version for domain, e in user.embeddings.items()} == {
        "art": "caller",
        "dating": "test",
    }
    assert (await refused(store.get("nobody", domain=""))).reason == "USER_NOT_FOUND"
    assert (await refused(store.get("u0", domain="", metadata=OTHER))).reason == "USER_NOT_FOUND"


async def test_an_erased_person_is_gone_and_counts_are_exact(store: Store) -> None:
    await store.report(
        outcome("u0", "u1", "accepted"),
        outcome("u0", "u2", "rejected"),
        outcome("u1", "u0", "accepted"),
        outcome("u3", "u1", "retracted"),
        outcome("u3", "u4", "accepted"),
        outcome("u3", "u2", "rejected"),
    )
    answer = await store.delete("u1")
    assert (answer.outcomes_removed, list(answer.snapshot_digests)) == (2, [])
    assert (await refused(store.get("u1"))).reason == "USER_NOT_FOUND"
    assert (await refused(store.delete("u1"))).reason == "USER_NOT_FOUND"
    assert (await refused(store.append("u1", "Sails."))).reason == "USER_NOT_FOUND"
    assert (await refused(store.report(outcome("u0", "u1", "accepted")))).code.name == "NOT_FOUND"
    pending = (await store.report(outcome("u0", "u2", "rejected"))).triplets_pending_train
    assert pending == 1


async def test_answers_kept_for_repeats_go_with_the_person(store: Store) -> None:
    await store.upsert("u9", fields={"age": 31}, request_id="r1")
    await store.append("u9", "Sails.", request_id="r2")
    kept = await store.upsert("u8", fields={"age": 32}, request_id="r3")
    await store.delete("u9", request_id="r4")
    for repeat in (
        store.upsert("u9", fields={"age": 31}, request_id="r1"),
        store.append("u9", "Sails.", request_id="r2"),
    ):
        assert (await refused(repeat)).reason in {"REQUEST_ID_REUSED", "USER_NOT_FOUND"}
    assert (await refused(store.get("u9"))).reason == "USER_NOT_FOUND"
    assert await store.upsert("u8", fields={"age": 32}, request_id="r3") == kept
    assert (await store.delete("u9", request_id="r4")).outcomes_removed == 0


async def test_erasing_names_what_is_wrong(store: Store) -> None:
    assert (await refused(store.delete("u1", domain="hiring"))).reason == "DOMAIN_NOT_FOUND"
    assert (await refused(store.delete("u1", metadata=OTHER))).reason == "DOMAIN_NOT_FOUND"


async def test_an_erasure_names_snapshots_and_the_next_one_is_without_the_person(
    store: Store,
) -> None:
    await store.report(outcome("u0", "u1", "accepted"), outcome("u0", "u2", "rejected"))
    stub = snapshot_service_pb2_grpc.SnapshotServiceStub(store.channel)
    request = snapshot_service_pb2.CreateSnapshotRequest(
        tenant="acme", domain="dating", revision=1_000
    )
    first = await stub.CreateSnapshot(request, metadata=MESH)
    answer = await store.delete("u1")
    assert list(answer.snapshot_digests) == [first.digest]
    assert answer.heads == "/v1/users/u1/heads?domain=dating"
    second = await stub.CreateSnapshot(request, metadata=MESH)
    assert (second.users_count, second.outcomes_count, second.triplets_count) == (4, 1, 0)
    outdated = snapshot_service_pb2.ListOutdatedSnapshotsRequest()
    answer = await stub.ListOutdatedSnapshots(outdated, metadata=MESH)
    assert list(answer.digests) == [first.digest]
    drop = snapshot_service_pb2.DropSnapshotRequest(digest=first.digest)
    for _ in range(2):
        await stub.DropSnapshot(drop, metadata=MESH)
    assert not await store.artifacts.exists(first.digest)
    assert (await stub.ListOutdatedSnapshots(outdated, metadata=MESH)).digests == []
    arrays = load(await store.artifacts.get(second.digest))
    assert arrays["columns"][:, 0].tolist()[2:] == [22, 23, 24]
    assert np.isnan(arrays["columns"][1]).all()
    assert not arrays["vectors"][1].any()
    assert arrays["candidates"].tolist() == [2]


async def test_the_stream_tells_of_an_erasure(store: Store) -> None:
    stub = profile_service_pb2_grpc.ProfileServiceStub(store.channel)
    stream = stub.WatchProfiles(profile_service_pb2.WatchProfilesRequest(), metadata=MESH)
    steps: AsyncIterator[profile_service_pb2.WatchProfilesResponse] = aiter(stream)
    while (await anext(steps)).domain:
        pass
    await store.delete("u3")
    step = await anext(steps)
    assert np.frombuffer(step.removals.numbers, "<i4").tolist() == [3]
    stream.cancel()


async def test_who_is_in_which_snapshot_is_told_page_by_page(store: Store) -> None:
    stub = snapshot_service_pb2_grpc.SnapshotServiceStub(store.channel)

    def ask(user_id: str, **asked: Any) -> Any:
        request = snapshot_service_pb2.ListUserSnapshotsRequest(
            tenant="acme", user_id=user_id, **asked
        )
        return stub.ListUserSnapshots(request, metadata=MESH)

    taken = []
    for number in range(3):
        await store.upsert(f"n{number}", fields={"age": 30})
        request = snapshot_service_pb2.CreateSnapshotRequest(
            tenant="acme", domain="dating", revision=1_000
        )
        taken.append((await stub.CreateSnapshot(request, metadata=MESH)).digest)
    await store.delete("u1")
    first = await ask("u1", page_size=2)
    last = await ask("u1", page_size=2, page_token=first.next_page_token)
    found = [*first.snapshots, *last.snapshots]
    assert [(one.domain, one.digest, one.erased) for one in found] == [
        ("dating", digest, True) for digest in taken[::-1]
    ]
    assert last.next_page_token == ""
    assert [one.digest for one in (await ask("n2", domain="dating")).snapshots] == taken[2:]
    assert (await refused(ask("nobody"))).reason == "USER_NOT_FOUND"
    assert (await refused(ask("u1", domain="art"))).reason == "DOMAIN_NOT_FOUND"
    for wrong in ({"page_size": -1}, {"page_token": "dating"}, {"page_token": "dating/x"}):
        assert (await refused(ask("u1", **wrong))).metadata["field"] == next(iter(wrong))

"""The triplet store's services: schemas, people and outcomes as callers meet them."""

from collections.abc import AsyncIterator

import grpc
import numpy as np
import pytest
from safetensors.numpy import load
from trine.triplets.v1 import (
    domain_service_pb2,
    domain_service_pb2_grpc,
    profile_service_pb2,
    profile_service_pb2_grpc,
    schema_service_pb2,
    schema_service_pb2_grpc,
    snapshot_service_pb2,
    snapshot_service_pb2_grpc,
    user_pb2,
    user_service_pb2,
    user_service_pb2_grpc,
)

from tests.support.server import ACME, MESH, OTHER, Refusal, refused
from tests.support.triplets import FIELDS, Store, open_store, outcome

Step = profile_service_pb2.WatchProfilesResponse
FAR_AHEAD = {"occurred_at": "9999-12-31T23:59:59Z"}
LONG_AGO = {"occurred_at": "1899-12-31T23:59:59Z"}


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store() as opened:
        yield opened


async def test_a_schema_is_declared_numbered_and_read(store: Store) -> None:
    assert (await store.put_schema()).version == "dating.v1"
    assert (await store.put_schema()).version == "dating.v1"
    grown = [*FIELDS, {"name": "pets", "kind": "hard", "type": "boolean"}]
    assert (await store.put_schema(fields=grown)).version == "dating.v2"
    stub = schema_service_pb2_grpc.SchemaServiceStub(store.channel)
    request = schema_service_pb2.GetSchemaRequest(domain="dating")
    schema = await stub.GetSchema(request, metadata=ACME)
    assert [field.name for field in schema.fields][-1] == "pets"
    assert (schema.embedding.encoder, schema.embedding.dim) == ("test", 2)
    assert schema.fields[0].priority == "medium"


async def test_an_incompatible_schema_is_refused(store: Store) -> None:
    await store.put_schema()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await store.put_schema(fields=FIELDS[1:])
    refusal = Refusal(caught.value)
    assert refusal.reason == "SCHEMA_INCOMPATIBLE"
    assert refusal.code is grpc.StatusCode.FAILED_PRECONDITION


async def test_another_encoder_than_the_meshs_is_refused(store: Store) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await store.put_schema(embedding={"encoder": "other", "dim": 2})
    assert Refusal(caught.value).metadata["field"] == "embedding.encoder"


async def test_a_person_comes_in_and_is_read(store: Store) -> None:
    await store.put_schema()
    fields = {"age": 31, "goal": "love", "city": "NY", "taste": 0.5, "about": "Loves art."}
    written: user_pb2.User = await store.upsert("u_alice", context="Sails.", fields=fields)
    read: user_pb2.User = await store.get("u_alice")
    assert read == written
    assert dict(read.derived) == {"taste": 0.5}
    assert dict(read.fields) == {key: fields[key] for key in ("age", "goal", "city", "about")}
    assert read.embeddings["dating"].dim == 2
    assert read.embeddings["dating"].version == "test"
    assert read.last_enriched_at.seconds > 0
    assert store.encoder.texts == ["Loves art.\nSails."]


async def test_an_upsert_replaces_everything(store: Store) -> None:
    await store.put_schema()
    await store.upsert("u_alice", fields={"age": 31, "city": "NY"})
    await store.upsert("u_alice", fields={"age": 32})
    assert dict((await store.get("u_alice")).fields) == {"age": 32}


async def test_a_person_without_text_has_no_embedding(store: Store) -> None:
    await store.put_schema()
    assert dict((await store.upsert("u_bob", fields={"age": 31})).embeddings) == {}
    assert store.encoder.texts == []


async def test_callers_bring_vectors_where_the_schema_says_so(store: Store) -> None:
    await store.put_schema(embedding={"encoder": "caller", "dim": 3})
    user = await store.upsert("u_bob", fields={"age": 31}, vector=[0, 3, 4])
    assert user.embeddings["dating"].version == "caller"
    refusal = await refused(store.upsert("u_eve", fields={"age": 31}, vector=[1, 2]))
    assert refusal.metadata["field"] == "vector"


@pytest.mark.parametrize(
    ("content", "reason", "field"),
    [
        ({"user_id": "", "fields": {"age": 3}}, "FIELD_INVALID", "user_id"),
        ({"user_id": "a/b", "fields": {"age": 3}}, "FIELD_INVALID", "user_id"),
        ({"user_id": "x" * 129, "fields": {"age": 3}}, "FIELD_INVALID", "user_id"),
        ({"fields": {"age": "old"}}, "FIELD_INVALID", "fields.age"),
        ({"fields": {"goal": "fun"}}, "FIELD_INVALID", "fields.age"),
        ({"fields": {"age": 3, "goal": "money"}}, "FIELD_INVALID", "fields.goal"),
        ({"fields": {"age": 3, "shoe": 4}}, "FIELD_INVALID", "fields.shoe"),
        ({"fields": {"age": 3}, "vector": [1, 2]}, "FIELD_INVALID", "vector"),
        ({"fields": {"age": 3}, "context": "x" * 20_001}, "FIELD_INVALID", "context"),
        ({"memory_ref": "jeanmemory://t/u"}, "MEMORY_RESOLVER_MISSING", "memory_ref"),
        ({"domain": "hiring", "fields": {"age": 3}}, "DOMAIN_NOT_FOUND", None),
    ],
)
async def test_a_broken_person_is_refused_and_not_stored(
    store: Store, content: dict[str, object], reason: str, field: str | None
) -> None:
    await store.put_schema()
    refusal = await refused(
        store.upsert("u_eve", **content)
        if "user_id" not in content
        else store.upsert(str(content["user_id"]), fields=content["fields"])
    )
    assert refusal.reason == reason
    assert refusal.metadata.get("field") == field
    assert (await refused(store.get("u_eve"))).reason == "USER_NOT_FOUND"


async def test_without_the_encoder_nothing_is_stored(store: Store) -> None:
    await store.put_schema()
    store.encoder.broken = True
    refusal = await refused(store.upsert("u_eve", fields={"age": 3}, context="Sails."))
    assert (refusal.reason, refusal.code.name) == ("ENCODER_UNAVAILABLE", "UNAVAILABLE")
    assert (await refused(store.get("u_eve"))).reason == "USER_NOT_FOUND"


async def test_outcomes_become_triplets_by_the_rule(store: Store) -> None:
    await store.fill()
    first = await store.report(outcome("u0", "u1", "accepted"), outcome("u0", "u2", "rejected"))
    assert (first.accepted, first.triplets_generated, first.triplets_pending_train) == (2, 1, 1)
    second = await store.report(outcome("u0", "u3", "converted"))
    assert (second.triplets_generated, second.triplets_pending_train) == (2, 3)
    elsewhere = await store.report(outcome("u4", "u3", "rejected"))
    assert (elsewhere.triplets_generated, elsewhere.triplets_pending_train) == (0, 3)


async def test_a_correction_counts_by_its_moment_not_by_its_arrival(store: Store) -> None:
    await store.fill()
    late = {"occurred_at": "2026-05-17T10:00:00Z"}
    early = {"occurred_at": "2026-05-17T09:00:00Z"}
    await store.report(outcome("u0", "u1", "accepted", **late), outcome("u0", "u2", "rejected"))
    overtaken = await store.report(outcome("u0", "u1", "rejected", **early))
    assert (overtaken.accepted, overtaken.triplets_pending_train) == (1, 1)
    later = {"occurred_at": "2026-05-17T11:00:00Z"}
    corrected = await store.report(outcome("u0", "u1", "rejected", **later))
    assert (corrected.triplets_generated, corrected.triplets_pending_train) == (0, 0)


async def test_a_repeated_report_gets_the_first_answer(store: Store) -> None:
    await store.fill()
    items = (outcome("u0", "u1", "accepted"), outcome("u0", "u2", "rejected"))
    first = await store.report(*items, request_id="r1")
    await store.report(outcome("u0", "u3", "accepted"))
    assert await store.report(*items, request_id="r1") == first
    other = await refused(store.report(outcome("u0", "u4", "accepted"), request_id="r1"))
    assert (other.reason, other.code.name) == ("REQUEST_ID_REUSED", "ALREADY_EXISTS")
    tenants = await refused(store.report(*items, request_id="r1", metadata=OTHER))
    assert tenants.reason == "DOMAIN_NOT_FOUND"


async def test_the_idempotency_key_header_is_a_request_id(store: Store) -> None:
    await store.fill()
    item = outcome("u0", "u1", "accepted")
    metadata = (*ACME, ("idempotency-key", "k1"))
    first = await store.report(item, metadata=metadata)
    assert await store.report(item, metadata=metadata) == first
    refusal = await refused(store.report(outcome("u0", "u2", "accepted"), metadata=metadata))
    assert refusal.reason == "REQUEST_ID_REUSED"


@pytest.mark.parametrize(
    ("items", "reason", "field"),
    [
        ([], "FIELD_INVALID", "items"),
        ([outcome("u0", "u1", "accepted")] * 1_001, "FIELD_INVALID", "items"),
        ([outcome("u0", "u1", "loved")], "LABEL_UNKNOWN", "items[0].outcome"),
        ([outcome("u0", "u1", "")], "LABEL_UNKNOWN", "items[0].outcome"),
        ([outcome("u0", "u9", "accepted")], "USER_NOT_FOUND", "items[0].candidate_id"),
        ([outcome("u9", "u0", "accepted")], "USER_NOT_FOUND", "items[0].seeker_id"),
        ([outcome("", "u0", "accepted")], "FIELD_INVALID", "items[0].seeker_id"),
        ([outcome("u0", "u0", "accepted")], "FIELD_INVALID", "items[0].candidate_id"),
        ([outcome("u0", "u1", "accepted", weight=0)], "FIELD_INVALID", "items[0].weight"),
        ([outcome("u0", "u1", "accepted", weight=101)], "FIELD_INVALID", "items[0].weight"),
        ([outcome("u0", "u1", "accepted", weight="NaN")], "FIELD_INVALID", "items[0].weight"),
        ([outcome("u0", "u1", "accepted", **FAR_AHEAD)], "FIELD_INVALID", "items[0].occurred_at"),
        ([outcome("u0", "u1", "accepted", **LONG_AGO)], "FIELD_INVALID", "items[0].occurred_at"),
    ],
)
async def test_one_broken_outcome_refuses_the_batch_and_nothing_of_it_is_kept(
    store: Store, items: list[dict[str, object]], reason: str, field: str
) -> None:
    await store.fill()
    good = [outcome("u0", "u2", "accepted"), outcome("u0", "u3", "rejected")]
    shifted = [*items, *good] if items and len(items) < 1_000 else items
    refusal = await refused(store.report(*shifted))
    assert (refusal.reason, refusal.metadata["field"]) == (reason, field)
    assert (await store.report(outcome("u4", "u1", "accepted"))).triplets_pending_train == 0


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_a_number_that_json_cannot_say_is_refused_by_its_name(
    store: Store, number: float
) -> None:
    await store.put_schema()
    request = user_service_pb2.UpsertUserRequest(user_id="u_bob", domain="dating")
    request.fields["age"] = number
    stub = user_service_pb2_grpc.UserServiceStub(store.channel)
    refusal = await refused(stub.UpsertUser(request, metadata=ACME))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "fields.age")


async def test_tenants_do_not_see_each_other(store: Store) -> None:
    await store.fill()
    assert (await refused(store.get("u0", metadata=OTHER))).reason == "DOMAIN_NOT_FOUND"
    refusal = await refused(store.upsert("u0", metadata=OTHER, fields={"age": 1}))
    assert refusal.reason == "DOMAIN_NOT_FOUND"


async def test_the_control_plane_reads_counts_and_records_training(store: Store) -> None:
    await store.fill()
    await store.report(outcome("u0", "u1", "accepted"), outcome("u0", "u2", "rejected"))
    stub = domain_service_pb2_grpc.DomainServiceStub(store.channel)
    listed = await stub.ListDomains(domain_service_pb2.ListDomainsRequest(), metadata=MESH)
    (domain,) = listed.domains
    assert (domain.tenant, domain.domain, domain.triplets_count) == ("acme", "dating", 1)
    record = domain_service_pb2.RecordTrainingRequest(
        tenant="acme", domain="dating", trained_triplets_count=1
    )
    await stub.RecordTraining(record, metadata=MESH)
    answer = await store.report(outcome("u0", "u3", "rejected"))
    assert (answer.triplets_generated, answer.triplets_pending_train) == (1, 1)


async def test_a_snapshot_holds_the_domain_as_of_its_revision(store: Store) -> None:
    await store.fill()
    await store.report(outcome("u0", "u1", "accepted"), outcome("u0", "u2", "rejected"))
    domains = domain_service_pb2_grpc.DomainServiceStub(store.channel)
    get = domain_service_pb2.GetDomainRequest(tenant="acme", domain="dating")
    revision = (await domains.GetDomain(get, metadata=MESH)).domain.revision
    await store.report(outcome("u0", "u3", "rejected"))
    snapshots = snapshot_service_pb2_grpc.SnapshotServiceStub(store.channel)
    request = snapshot_service_pb2.CreateSnapshotRequest(
        tenant="acme", domain="dating", revision=revision
    )
    first = await snapshots.CreateSnapshot(request, metadata=MESH)
    assert first == await snapshots.CreateSnapshot(request, metadata=MESH)
    assert (first.users_count, first.outcomes_count, first.triplets_count) == (5, 2, 1)
    arrays = load(await store.artifacts.get(first.digest))
    assert arrays["triplets"].tolist() == [[0, 0, 1]]
    assert arrays["columns"][:, 0].tolist() == [20, 21, 22, 23, 24]
    assert arrays["levels"].tolist() == [2, 0]


async def test_the_profile_stream_sends_everything_and_then_each_change(store: Store) -> None:
    await store.fill(2)
    stub = profile_service_pb2_grpc.ProfileServiceStub(store.channel)
    stream = stub.WatchProfiles(profile_service_pb2.WatchProfilesRequest(), metadata=MESH)
    steps: AsyncIterator[Step] = aiter(stream)
    profiles, tallies, complete, caught_up = [await anext(steps) for _ in range(4)]
    assert list(profiles.profiles.user_ids) == ["u0", "u1"]
    assert np.frombuffer(tallies.tallies.counts, "<i4").tolist() == [0] * 8
    assert complete.revision > profiles.revision
    assert not caught_up.domain
    await store.upsert("u7", fields={"age": 40, "city": "NY"})
    change = await anext(steps)
    assert list(change.profiles.user_ids) == ["u7"]
    assert list(change.profiles.strings["city"].values) == ["NY"]
    stream.cancel()

"""ImportUsers as callers meet it: a stream of batches, each stored, broken rows told."""

from collections.abc import AsyncIterator, Iterable

import grpc
import numpy as np
import pytest
from trine.triplets.v1 import user_service_pb2 as pb
from trine.triplets.v1 import user_service_pb2_grpc

from services.triplets.rpc import imports
from tests.support.server import ACME, OTHER, refused
from tests.support.triplets import Store, open_store


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store() as opened:
        await opened.put_schema()
        await opened.put_schema(domain="own", embedding={"encoder": "caller", "dim": 2})
        yield opened


def row(user_id: str, context: str = "", **fields: object) -> pb.ImportUsersRequest.Row:
    """A person of twenty, unless told otherwise."""
    made = pb.ImportUsersRequest.Row(user_id=user_id, context=context)
    made.fields.update({"age": 20, **fields})  # type: ignore[dict-item]  # as JSON says them
    return made


def batch(
    *users: pb.ImportUsersRequest.Row, domain: str = "dating", vectors: object = ()
) -> pb.ImportUsersRequest:
    """One message."""
    content = np.array(vectors, "<f4").tobytes()
    return pb.ImportUsersRequest(domain=domain, users=users, vectors=content)


def send(store: Store, batches: Iterable[pb.ImportUsersRequest], metadata: object = ACME) -> object:
    """Imports."""
    stub = user_service_pb2_grpc.UserServiceStub(store.channel)
    return stub.ImportUsers(iter(batches), metadata=metadata)  # type: ignore[arg-type]


async def answer(store: Store, *batches: pb.ImportUsersRequest) -> pb.ImportUsersResponse:
    """Imports and returns the answer."""
    response = await send(store, batches)  # type: ignore[misc]
    assert isinstance(response, pb.ImportUsersResponse)
    return response


async def test_people_come_in_batch_by_batch(store: Store) -> None:
    made = await answer(store, batch(row("u0"), row("u1", "Sails.")), batch(row("u2", city="NY")))
    assert (made.imported, made.rejected, len(made.errors)) == (3, 0, 0)
    user = await store.get("u2")
    assert dict(user.fields) == {"age": 20, "city": "NY"}
    assert user.provenance["city"].source == "fields"
    assert store.encoder.texts == ["Sails."]
    assert (await store.get("u1")).embeddings["dating"].version == "test"
    assert dict((await store.get("u0")).embeddings) == {}


async def test_callers_bring_vectors_and_a_row_of_zeros_is_none(store: Store) -> None:
    vectors = [[3.0, 4.0], [0.0, 0.0], [1e-30, 0.0], [np.inf, 0.0]]
    users = [row(f"u{number}") for number in range(4)]
    made = await answer(store, batch(*users, domain="own", vectors=vectors))
    assert (made.imported, made.rejected) == (3, 1)
    assert (made.errors[0].index, made.errors[0].field) == (3, "vectors")
    assert "own" in (await store.get("u0", domain="own")).embeddings
    assert "own" not in (await store.get("u1", domain="own")).embeddings
    assert "own" in (await store.get("u2", domain="own")).embeddings


async def test_a_broken_row_spoils_no_other_and_is_told_by_its_place(store: Store) -> None:
    made = await answer(
        store,
        batch(row("u0"), row("a b"), row("u1", age="old")),
        batch(row("u2", shoe=4), row("u3"), row("u4", age=None)),
    )
    assert (made.imported, made.rejected) == (2, 4)
    assert [(e.index, e.field, e.reason) for e in made.errors] == [
        (1, "user_id", "FIELD_INVALID"),
        (2, "fields.age", "FIELD_INVALID"),
        (3, "fields.shoe", "FIELD_INVALID"),
        (5, "fields.age", "FIELD_INVALID"),
    ]
    assert (await store.get("u3")).user_id == "u3"
    assert (await refused(store.get("u1"))).reason == "USER_NOT_FOUND"


async def test_of_rows_under_one_id_the_last_stands(store: Store) -> None:
    made = await answer(store, batch(row("u0", age=1), row("u0", age=2)), batch(row("u1")))
    assert made.imported == 3
    assert (await store.get("u0")).fields["age"] == 2
    await answer(store, batch(row("u0", age=3)))
    assert (await store.get("u0")).fields["age"] == 3


async def test_only_so_many_errors_are_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "ERRORS_MAX", 3)
    made = await answer(store, batch(row(""), row("")), batch(row(""), row("")))
    assert (made.rejected, [error.index for error in made.errors]) == (4, [0, 1, 2])


@pytest.mark.parametrize(
    ("bad", "reason", "field"),
    [
        (batch(), "FIELD_INVALID", "users"),
        (batch(*[row("u9")] * 1_001), "FIELD_INVALID", "users"),
        (batch(row("u9"), domain="hiring"), "DOMAIN_NOT_FOUND", None),
        (batch(row("u9"), vectors=[1, 0]), "FIELD_INVALID", "vectors"),
        (batch(row("u9"), domain="own", vectors=[1, 0, 0]), "FIELD_INVALID", "vectors"),
        (pb.ImportUsersRequest(domain="own", users=[row("u9")], vectors=b"123"), None, "vectors"),
    ],
)
async def test_a_batch_that_is_wrong_as_a_whole_ends_the_stream_and_what_came_before_stays(
    store: Store, bad: pb.ImportUsersRequest, reason: str | None, field: str | None
) -> None:
    refusal = await refused(send(store, [batch(row("u0")), bad, batch(row("u1"))]))  # type: ignore[arg-type]
    assert refusal.reason == (reason or "FIELD_INVALID")
    assert refusal.metadata.get("field") == field
    assert (await store.get("u0")).user_id == "u0"
    assert (await refused(store.get("u1"))).reason == "USER_NOT_FOUND"


async def test_without_the_encoder_a_batch_is_not_stored(store: Store) -> None:
    store.encoder.broken = True
    refusal = await refused(send(store, [batch(row("u0", "Sails."))]))  # type: ignore[arg-type]
    assert (refusal.reason, refusal.code) == (
        "ENCODER_UNAVAILABLE",
        grpc.StatusCode.UNAVAILABLE,
    )


async def test_tenants_import_into_their_own_domains(store: Store) -> None:
    refusal = await refused(send(store, [batch(row("u0"))], OTHER))  # type: ignore[arg-type]
    assert refusal.reason == "DOMAIN_NOT_FOUND"
    assert (await refused(send(store, [], ()))).code.name == "UNAUTHENTICATED"  # type: ignore[arg-type]

"""Values out of texts, as callers meet them: they fill in, and never take a given value's place."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf import json_format

from tests.support.server import refused
from tests.support.triplets import FIELDS, Store, open_store

PLACE = {"name": "place", "kind": "hard", "type": "geo"}


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store() as opened:
        await opened.put_schema(fields=[*FIELDS, PLACE])
        yield opened


def read(user: Any) -> dict[str, Any]:
    """Fields as plain values."""
    values: dict[str, Any] = json_format.MessageToDict(user.fields)
    return values


async def test_a_person_with_a_context_alone_gets_typed_fields(store: Store) -> None:
    user = await store.upsert("u_ann", context="I'm 34. I live in Oslo.")
    assert read(user) == {"age": 34, "city": "Oslo", "place": {"lat": 59.91, "lon": 10.75}}
    age = user.provenance["age"]
    assert (age.source, age.evidence) == ("extraction", "I'm 34")
    assert 0.9 < age.confidence < 1
    assert await store.get("u_ann") == user


async def test_a_given_value_wins(store: Store) -> None:
    user = await store.upsert("u_ann", context="I'm 34. I live in Oslo.", fields={"age": 31})
    assert read(user)["age"] == 31
    assert (user.provenance["age"].source, user.provenance["age"].confidence) == ("fields", 1)
    assert user.provenance["age"].evidence == ""
    answer = await store.append("u_ann", "I'm 36")
    assert list(answer.fields_updated) == []
    assert read(await store.get("u_ann"))["age"] == 31


async def test_a_required_field_that_the_text_does_not_tell_is_missed(store: Store) -> None:
    refusal = await refused(store.upsert("u_ann", context="I sail."))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "fields.age")


async def test_contexts_tell_and_the_later_word_stands(store: Store) -> None:
    await store.upsert("u_ann", fields={"age": 31})
    first = await store.append("u_ann", "I live in Oslo.", occurred_at="2026-05-17T00:00:00Z")
    assert list(first.fields_updated) == ["city", "place"]
    earlier = {"occurred_at": "2026-05-16T00:00:00Z"}
    old = await store.append("u_ann", "I live in Paris, France.", **earlier)
    assert list(old.fields_updated) == []
    assert read(await store.get("u_ann"))["city"] == "Oslo"
    later = {"occurred_at": "2026-05-18T00:00:00Z"}
    again = await store.append("u_ann", "I live in Oslo, Norway.", **later)
    assert list(again.fields_updated) == []
    moved = await store.append("u_ann", "I moved to Paris, Texas.")
    assert list(moved.fields_updated) == ["city", "place"]
    user = await store.get("u_ann")
    assert user.provenance["city"].evidence == "I moved to Paris, Texas."


async def test_a_place_may_be_given_by_its_name(store: Store) -> None:
    user = await store.upsert("u_ann", fields={"age": 31, "place": "Paris, TX"})
    assert read(user)["place"] == {"lat": 33.66, "lon": -95.56}
    assert user.provenance["place"].source == "fields"
    broken = {"age": 31, "place": "Springfield"}
    refusal = await refused(store.upsert("u_ann", fields=broken))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "fields.place")


async def test_without_the_encoder_nothing_is_stored(store: Store) -> None:
    store.encoder.broken = True
    refusal = await refused(store.upsert("u_ann", context="I'm 34. I sail."))
    assert refusal.reason == "ENCODER_UNAVAILABLE"
    assert (await refused(store.get("u_ann"))).reason == "USER_NOT_FOUND"

"""Schemas as callers meet them: dry runs, templates, lists and places."""

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf import json_format
from trine.triplets.v1 import schema_service_pb2 as pb
from trine.triplets.v1 import schema_service_pb2_grpc

from services.triplets.core import put_schema
from tests.support.server import ACME, refused
from tests.support.triplets import FIELDS, Store, open_store


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store() as opened:
        yield opened


def stub(store: Store) -> Any:
    """The service."""
    return schema_service_pb2_grpc.SchemaServiceStub(store.channel)


def preview(store: Store, fields: list[dict[str, object]], domain: str = "dating") -> Any:
    """A dry run."""
    content = {"schema": {"domain": domain, "fields": fields}, "validate_only": True}
    request = json_format.ParseDict(content, pb.PutSchemaRequest())
    return stub(store).PutSchema(request, metadata=ACME)


GROWN: list[dict[str, object]] = [
    FIELDS[0],
    FIELDS[1] | {"members": ["fun", "love", "friends"]},
    *FIELDS[2:4],
    FIELDS[4] | {"priority": "high"},
    {"name": "pets", "kind": "hard", "type": "boolean"},
]


async def test_a_dry_run_says_what_a_schema_would_do_and_does_nothing(store: Store) -> None:
    first = await preview(store, FIELDS)
    assert (first.version, first.change.created, first.change.applied) == ("dating.v1", True, False)
    assert list(first.change.added_fields) == ["age", "goal", "city", "taste", "about"]
    get = pb.GetSchemaRequest(domain="dating")
    refusal = await refused(stub(store).GetSchema(get, metadata=ACME))
    assert refusal.reason == "DOMAIN_NOT_FOUND"
    put = await store.put_schema()
    assert (put.change.created, put.change.applied) == (True, True)
    told = await preview(store, GROWN)
    assert (told.version, told.change.previous_version) == ("dating.v2", "dating.v1")
    assert list(told.change.added_fields) == ["pets"]
    assert list(told.change.added_members) == ["goal.friends"]
    assert list(told.change.reworded_fields) == ["about"]
    assert told.change.heads_stay_valid
    read = await stub(store).GetSchema(get, metadata=ACME)
    assert read.version == "dating.v1"
    assert not read.HasField("change")
    done = await store.put_schema(fields=GROWN)
    told.change.applied = True
    assert done == told


async def test_a_dry_run_of_what_cannot_be_is_refused_as_the_change_itself(store: Store) -> None:
    await store.put_schema()
    told = await refused(preview(store, FIELDS[1:]))
    done = await refused(store.put_schema(fields=FIELDS[1:]))  # awaitable all the same
    assert (told.reason, told.metadata, told.message) == (done.reason, done.metadata, done.message)


async def test_what_members_mean_is_kept(store: Store) -> None:
    goal = FIELDS[1] | {"member_descriptions": {"fun": "Wants to laugh."}}
    put = await store.put_schema(fields=[goal])
    assert dict(put.fields[0].member_descriptions) == {"fun": "Wants to laugh."}
    again = await store.put_schema(fields=[goal])
    assert again.version == "dating.v1"


async def test_every_template_is_listed_read_and_put_as_it_is(store: Store) -> None:
    listed = await stub(store).ListSchemaTemplates(pb.ListSchemaTemplatesRequest(), metadata=ACME)
    assert len(listed.schema_templates) == 6
    for template in listed.schema_templates:
        request = pb.GetSchemaTemplateRequest(template=template.template)
        assert await stub(store).GetSchemaTemplate(request, metadata=ACME) == template
        put = pb.PutSchemaRequest(schema=template.schema)
        schema = await stub(store).PutSchema(put, metadata=ACME)
        assert schema.domain == template.template
        assert schema.fields == template.schema.fields
    unknown = pb.GetSchemaTemplateRequest(template="friends")
    refusal = await refused(stub(store).GetSchemaTemplate(unknown, metadata=ACME))
    assert (refusal.reason, refusal.code.name) == ("TEMPLATE_NOT_FOUND", "NOT_FOUND")
    assert "hiring" in refusal.metadata["templates"]


async def test_lists_and_places_come_in_and_are_read(store: Store) -> None:
    fields: list[dict[str, object]] = [
        {"name": "tags", "kind": "hard", "type": "list"},
        {"name": "place", "kind": "hard", "type": "geo"},
    ]
    await store.put_schema(fields=fields)
    values = {"tags": ["calm", "tall"], "place": {"lat": 47.56, "lon": 7.59}}
    user = await store.upsert("u0", fields=values)
    assert json_format.MessageToDict(user.fields) == values
    assert await store.get("u0") == user
    for broken, field in (
        ({"tags": "calm"}, "fields.tags"),
        ({"tags": [""]}, "fields.tags[0]"),
        ({"place": {"lat": 91, "lon": 0}}, "fields.place.lat"),
        ({"place": {"lat": 1}}, "fields.place"),
    ):
        refusal = await refused(store.upsert("u1", fields=broken))
        assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", field)


async def test_a_tenant_may_have_so_many_domains_and_no_more(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(put_schema, "DOMAINS_MAX", 2)
    for domain in ("dating", "hiring"):
        await store.put_schema(domain=domain)
    for act in (store.put_schema(domain="founders"), preview(store, FIELDS, "founders")):
        refusal = await refused(act)
        assert refusal.code is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert refusal.reason == "DOMAINS_EXHAUSTED"
        assert refusal.metadata["domains_max"] == "2"
    assert (await store.put_schema(fields=GROWN)).version == "dating.v2"
    assert (await preview(store, GROWN)).version == "dating.v2"

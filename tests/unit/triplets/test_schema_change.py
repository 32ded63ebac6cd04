"""Putting a schema: what is foretold is what is done, and the templates may be put."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.triplets.core.errors import TemplateNotFoundError, TripletsError
from services.triplets.core.put_schema import preview_schema, put_schema
from services.triplets.core.schema import Field, Schema, check_schema
from services.triplets.core.schema_change import SchemaChange
from services.triplets.core.schema_templates import TEMPLATES, find_template
from services.triplets.memory import MemoryTripletStore

AGE = Field(name="age", kind="hard", type="integer", required=True)
GOAL = Field(name="goal", kind="hard", type="enum", members=("fun", "love"))
ABOUT = Field(name="about", kind="soft", type="string")


def schema(*fields: Field) -> Schema:
    """A schema with the given fields."""
    return Schema(domain="dating", number=1, fields=fields, encoder="test", dim=4)


async def test_a_change_is_told_before_and_after_it_is_done() -> None:
    store = MemoryTripletStore()
    created = SchemaChange(
        created=True,
        previous_version="",
        added_fields=("age", "goal"),
        added_members=(),
        reworded_fields=(),
        reciprocal_changed=False,
        applied=False,
    )
    first = schema(AGE, GOAL)
    assert await preview_schema(store, "acme", first) == (first, created)
    assert await store.read_schema("acme", "dating") is None
    done = dataclasses.replace(created, applied=True)
    assert await put_schema(store, "acme", first) == (first, done)
    grown = schema(
        dataclasses.replace(AGE, required=False),
        dataclasses.replace(GOAL, members=("fun", "love", "friends")),
        ABOUT,
    )
    grown = dataclasses.replace(grown, reciprocal=True)
    new, change = await preview_schema(store, "acme", grown)
    assert new.version == "dating.v2"
    assert change == SchemaChange(
        created=False,
        previous_version="dating.v1",
        added_fields=("about",),
        added_members=("goal.friends",),
        reworded_fields=("age",),
        reciprocal_changed=True,
        applied=False,
    )
    assert await store.read_schema("acme", "dating") == first
    assert await put_schema(store, "acme", grown) == (
        new,
        dataclasses.replace(change, applied=True),
    )


field = st.builds(
    Field,
    name=st.sampled_from("abc"),
    kind=st.just("hard"),
    type=st.sampled_from(["integer", "enum", "list", "geo"]),
    required=st.booleans(),
    members=st.sampled_from([(), ("x",), ("x", "y"), ("y", "x")]),
    description=st.sampled_from(["", "Words."]),
)
schemas = st.lists(field, max_size=3).map(lambda fields: schema(*fields))


@given(st.lists(schemas, max_size=4))
async def test_whatever_is_put_the_preview_says_it_first(history: list[Schema]) -> None:
    store = MemoryTripletStore()
    for wanted in history:
        before = await store.read_schema("acme", "dating")
        outcomes: list[object] = []
        for put in (preview_schema, put_schema):
            try:
                made, change = await put(store, "acme", wanted)
            except TripletsError as error:
                outcomes.append((type(error), error.metadata))
            else:
                outcomes.append((made, dataclasses.replace(change, applied=False)))
            if put is preview_schema:
                assert await store.read_schema("acme", "dating") == before
        assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.name)
def test_a_template_is_a_sound_schema_with_words_for_everything(template: object) -> None:
    found = find_template(template.name)  # type: ignore[attr-defined]
    check_schema(dataclasses.replace(schema(*found.fields), domain=found.name))
    assert found.description
    assert all(field.description for field in found.fields)
    for field in found.fields:
        assert {member for member, _ in field.member_descriptions} == set(field.members)
    assert {field.kind for field in found.fields} >= {"hard", "soft"}


def test_there_is_a_template_for_each_kind_of_platform() -> None:
    assert [template.name for template in TEMPLATES] == [
        "dating",
        "hiring",
        "founder-investor",
        "marketplace",
        "agent-to-agent",
        "product-recommendation",
    ]
    with pytest.raises(TemplateNotFoundError):
        find_template("friends")

"""Schemas: which are accepted, and which may follow which."""

import dataclasses

import pytest

from services.triplets.core.errors import FieldInvalidError, SchemaIncompatibleError
from services.triplets.core.schema import Field, Schema, check_schema, successor

AGE = Field(name="age", kind="hard", type="integer")
GOAL = Field(name="goal", kind="hard", type="enum", members=("fun", "love"))
ABOUT = Field(name="about", kind="soft", type="string")
TAGS = Field(name="tags", kind="hard", type="list")
PLACE = Field(name="place", kind="hard", type="geo")


def schema(*fields: Field, domain: str = "dating", dim: int = 384) -> Schema:
    """A schema with the given fields."""
    return Schema(domain=domain, number=1, fields=fields, encoder="all-minilm-l6-v2", dim=dim)


def test_a_sound_schema_is_accepted() -> None:
    described = dataclasses.replace(GOAL, member_descriptions=(("fun", "Wants to laugh."),))
    check_schema(schema(AGE, described, ABOUT, TAGS, PLACE))


@pytest.mark.parametrize(
    ("bad", "field"),
    [
        (schema(domain="Dating"), "domain"),
        (schema(domain="a.b"), "domain"),
        (schema(domain=""), "domain"),
        (schema(dim=0), "embedding.dim"),
        (schema(AGE, AGE), "fields[1].name"),
        (schema(dataclasses.replace(AGE, name="Age")), "fields[0].name"),
        (schema(dataclasses.replace(AGE, kind="firm")), "fields[0].kind"),
        (schema(dataclasses.replace(AGE, type="float")), "fields[0].type"),
        (schema(dataclasses.replace(AGE, priority="top")), "fields[0].priority"),
        (schema(dataclasses.replace(ABOUT, type="integer")), "fields[0].type"),
        (schema(dataclasses.replace(ABOUT, type="list")), "fields[0].type"),
        (schema(dataclasses.replace(TAGS, kind="derived")), "fields[0].type"),
        (schema(dataclasses.replace(PLACE, kind="derived")), "fields[0].type"),
        (
            schema(dataclasses.replace(GOAL, member_descriptions=(("money", "Rich."),))),
            "fields[0].member_descriptions",
        ),
        (
            schema(dataclasses.replace(GOAL, member_descriptions=(("fun", "x" * 1_001),))),
            "fields[0].member_descriptions",
        ),
        (schema(dataclasses.replace(GOAL, members=())), "fields[0].members"),
        (schema(dataclasses.replace(GOAL, members=("a", "a"))), "fields[0].members"),
        (schema(dataclasses.replace(GOAL, members=("",))), "fields[0].members"),
        (schema(dataclasses.replace(AGE, members=("a",))), "fields[0].members"),
        (schema(*(dataclasses.replace(AGE, name=f"f{i}") for i in range(257))), "fields"),
    ],
)
def test_a_broken_schema_names_its_fault(bad: Schema, field: str) -> None:
    with pytest.raises(FieldInvalidError) as caught:
        check_schema(bad)
    assert caught.value.metadata["field"] == field
    assert caught.value.metadata["rule"]


def test_an_equal_schema_changes_nothing() -> None:
    old = schema(AGE, GOAL)
    assert successor(old, schema(AGE, GOAL)) is old


def test_whether_a_match_needs_both_people_may_change() -> None:
    old = schema(AGE, GOAL)
    new = successor(old, dataclasses.replace(old, reciprocal=True))
    assert (new.reciprocal, new.number) == (True, old.number + 1)
    assert successor(new, dataclasses.replace(new, number=1)) is new


def test_fields_and_members_may_be_added() -> None:
    grown = dataclasses.replace(GOAL, members=("fun", "love", "friends"))
    new = successor(schema(AGE, GOAL), schema(AGE, grown, ABOUT))
    assert new.version == "dating.v2"
    assert new.fields == (AGE, grown, ABOUT)


@pytest.mark.parametrize(
    ("new", "field"),
    [
        (schema(AGE), "fields"),
        (schema(GOAL, AGE), "fields[0].name"),
        (schema(dataclasses.replace(AGE, type="number"), GOAL), "fields[0].type"),
        (schema(dataclasses.replace(AGE, kind="derived"), GOAL), "fields[0].kind"),
        (schema(dataclasses.replace(AGE, required=True), GOAL), "fields[0].required"),
        (schema(AGE, dataclasses.replace(GOAL, members=("love", "fun"))), "fields[1].members"),
        (schema(AGE, GOAL, dataclasses.replace(ABOUT, required=True)), "fields[2].required"),
        (schema(AGE, GOAL, dim=128), "embedding"),
    ],
)
def test_what_would_break_stored_values_or_heads_is_refused(new: Schema, field: str) -> None:
    with pytest.raises(SchemaIncompatibleError) as caught:
        successor(schema(AGE, GOAL), new)
    assert caught.value.metadata["field"] == field


def test_columns_are_what_heads_can_read() -> None:
    city = Field(name="city", kind="hard", type="string")
    taste = Field(name="taste", kind="derived", type="number")
    assert schema(AGE, city, TAGS, ABOUT, PLACE, GOAL, taste).columns == (AGE, GOAL, taste)

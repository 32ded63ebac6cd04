"""Which columns and which tenants a shared domain has."""

import pytest

from services.triplets.core.ports import DomainCounts, SharedPart
from services.triplets.core.schema import Field, Schema
from services.triplets.core.sharing import (
    TENANTS_MAX,
    count_together,
    participants,
    shared_columns,
)


def schema(*fields: Field) -> Schema:
    return Schema(domain="dating", number=1, fields=fields, encoder="test", dim=4)


def field(name: str, kind: str = "hard", type_: str = "integer", *members: str) -> Field:
    return Field(name=name, kind=kind, type=type_, members=members)


def part(
    tenant: str, triplets: int = 1, encoder: str = "test", domain: str = "dating"
) -> SharedPart:
    counts = DomainCounts(
        tenant=tenant,
        domain=domain,
        revision=5,
        triplets_count=triplets,
        positives_count=0,
        trained_triplets_count=0,
    )
    return SharedPart(counts=counts, encoder=encoder, dim=4)


def test_columns_are_those_of_all_by_name_and_type() -> None:
    first = schema(field("height"), field("age"), field("city", "hard", "string"), field("pets"))
    second = schema(field("age"), field("pets", "hard", "boolean"), field("height", "derived"))
    assert [column.name for column in shared_columns([first, second])] == ["age", "height"]
    assert shared_columns([first, second]) == shared_columns([second, first])


@pytest.mark.parametrize(
    ("members", "shared"),
    [
        (("fun", "love", "friends"), ("fun", "love")),
        (("fun",), ("fun",)),
        (("love", "fun"), None),
        (("fun", "friends"), None),
    ],
)
def test_the_members_of_an_enum_must_begin_alike(
    members: tuple[str, ...], shared: tuple[str, ...] | None
) -> None:
    ours, theirs = (
        field("goal", "hard", "enum", "fun", "love"),
        field("goal", "hard", "enum", *members),
    )
    found = shared_columns([schema(ours), schema(theirs)])
    assert [column.members for column in found] == ([] if shared is None else [shared])


def test_a_tenant_alone_shares_nothing() -> None:
    assert participants([part("acme"), part("bolt", domain="hiring")]) == []
    assert participants([]) == []


def test_the_encoder_of_most_tenants_takes_part() -> None:
    parts = [
        part("acme", encoder="older"),
        part("cube"),
        part("bolt"),
        part("dart", encoder="older"),
    ]
    assert [p.counts.tenant for p in participants(parts)] == ["acme", "dart"]
    assert [p.counts.tenant for p in participants([*parts, part("echo")])] == [
        "bolt",
        "cube",
        "echo",
    ]


def test_of_too_many_tenants_those_with_the_most_triplets_take_part() -> None:
    parts = [part(f"t{number}", triplets=number + 1) for number in range(TENANTS_MAX + 1)]
    found = {p.counts.tenant for p in participants(parts)}
    assert len(found) == TENANTS_MAX
    assert "t0" not in found


def test_parts_are_counted_together_as_nobodys_domain() -> None:
    counts = count_together([part("acme", 3), part("bolt", 4)], trained=5)
    assert (counts.tenant, counts.domain, counts.revision) == ("_shared", "dating", 0)
    assert (counts.triplets_count, counts.trained_triplets_count) == (7, 5)

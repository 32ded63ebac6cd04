"""Reports of outcomes as callers meet them: labels of their own, retractions, partial batches."""

from collections.abc import AsyncIterator

import pytest
from trine.triplets.v1 import label_service_pb2, label_service_pb2_grpc

from tests.support.server import ACME, OTHER, refused
from tests.support.triplets import Store, open_store, outcome

LIKED = {"name": "super_like", "level": "converted", "weight": 2.0}


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    async with open_store() as opened:
        await opened.fill()
        yield opened


async def test_labels_are_registered_and_read_beside_those_that_are_built_in(store: Store) -> None:
    put = await store.put_labels(LIKED, {"name": "met", "level": "accepted"})
    stub = label_service_pb2_grpc.LabelServiceStub(store.channel)
    request = label_service_pb2.GetLabelsRequest(domain="dating")
    read = await stub.GetLabels(request, metadata=ACME)
    assert read == put
    assert [(label.name, label.level, label.weight) for label in read.labels] == [
        ("super_like", "converted", 2.0),
        ("met", "accepted", 1.0),
    ]
    built_in = ["rejected", "expired", "accepted", "converted", "retracted"]
    assert [label.name for label in read.built_in] == built_in
    assert (await refused(stub.GetLabels(request, metadata=OTHER))).reason == "DOMAIN_NOT_FOUND"


async def test_a_registered_label_counts_as_its_level_and_then_stays(store: Store) -> None:
    await store.put_labels(LIKED)
    answer = await store.report(
        outcome("u0", "u1", "super_like"),
        outcome("u0", "u2", "accepted"),
        outcome("u0", "u3", "expired"),
    )
    assert (answer.accepted, answer.triplets_generated) == (3, 3)
    changed = await refused(store.put_labels(LIKED | {"level": "rejected"}))
    assert (changed.reason, changed.code.name) == ("LABEL_IN_USE", "FAILED_PRECONDITION")
    assert changed.metadata["field"] == "labels[0].level"
    assert (await refused(store.put_labels())).reason == "LABEL_IN_USE"
    (label,) = (await store.put_labels(LIKED | {"weight": 5.0})).labels
    assert (label.weight, label.used) == (5.0, True)


@pytest.mark.parametrize(
    ("label", "field"),
    [
        ({"name": "accepted", "level": "rejected"}, "labels[0].name"),
        ({"name": "met", "level": "loved"}, "labels[0].level"),
        ({"name": "met", "level": "retracted"}, "labels[0].level"),
        ({"name": "met", "level": "accepted", "weight": 0}, "labels[0].weight"),
    ],
)
async def test_a_broken_label_is_refused(
    store: Store, label: dict[str, object], field: str
) -> None:
    refusal = await refused(store.put_labels(label))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", field)


async def test_labels_of_an_unknown_domain_are_refused(store: Store) -> None:
    assert (await refused(store.put_labels(LIKED, domain="hiring"))).reason == "DOMAIN_NOT_FOUND"


async def test_an_outcome_is_taken_back(store: Store) -> None:
    await store.report(outcome("u0", "u1", "accepted"), outcome("u0", "u2", "rejected"))
    answer = await store.report(outcome("u0", "u1", "retracted"))
    assert (answer.accepted, answer.triplets_generated) == (1, 0)
    assert answer.triplets_pending_train == 0


async def test_a_partial_report_keeps_its_good_items_and_names_the_others(store: Store) -> None:
    answer = await store.report(
        outcome("u0", "u1", "accepted"),
        outcome("u0", "u9", "accepted"),
        outcome("u0", "u2", "rejected", match_id="m_7"),
        outcome("u0", "u2", "loved"),
        outcome("u0", "u3", "rejected", match_id="x" * 65),
        outcome("u0", "u3", "rejected", weight=-1),
        partial=True,
    )
    assert (answer.accepted, answer.triplets_generated) == (2, 1)
    assert [(e.index, e.field, e.reason) for e in answer.errors] == [
        (1, "items[1].candidate_id", "USER_NOT_FOUND"),
        (3, "items[3].outcome", "LABEL_UNKNOWN"),
        (4, "items[4].match_id", "FIELD_INVALID"),
        (5, "items[5].weight", "FIELD_INVALID"),
    ]
    assert all(e.message.startswith(e.field) for e in answer.errors)


async def test_what_concerns_the_whole_batch_refuses_a_partial_report_too(store: Store) -> None:
    assert (await refused(store.report(partial=True))).metadata["field"] == "items"
    item = outcome("u0", "u1", "accepted")
    elsewhere = await refused(store.report(item, partial=True, metadata=OTHER))
    assert elsewhere.reason == "DOMAIN_NOT_FOUND"


async def test_a_repeated_partial_report_gets_the_first_answer(store: Store) -> None:
    items = (outcome("u0", "u1", "accepted"), outcome("u0", "u2", "loved"))
    first = await store.report(*items, partial=True, request_id="r1")
    await store.put_labels({"name": "loved", "level": "converted"})
    assert await store.report(*items, partial=True, request_id="r1") == first
    assert [error.reason for error in first.errors] == ["LABEL_UNKNOWN"]

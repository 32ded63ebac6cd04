"""Feedback over REST: registered labels, retractions and partial batches, seen through Envoy."""

import pytest

from tests.support.mesh import Json, Mesh

DOMAIN = "feedback"


@pytest.fixture(scope="module", autouse=True)
def people(mesh: Mesh) -> None:
    mesh.fill(DOMAIN, 6)


def report(mesh: Mesh, *items: Json, **content: object) -> Json:
    """POST /v1/feedback."""
    return mesh.call("POST", "/v1/feedback", {"domain": DOMAIN, "items": items, **content})


def item(candidate: int, label: str) -> Json:
    """What u0 says of somebody."""
    return {"seeker_id": "u0", "candidate_id": f"u{candidate}", "outcome": label}


def test_a_tenant_registers_its_labels_and_reports_with_them(mesh: Mesh) -> None:
    label = {"name": "super_like", "level": "converted", "weight": 2.5}
    put = mesh.call("PUT", "/v1/labels", {"labels": [label]}, domain=DOMAIN)
    assert put["labels"] == [label | {"used": False}]
    report(mesh, item(1, "super_like"))
    read = mesh.call("GET", "/v1/labels", domain=DOMAIN)
    assert read["labels"] == [label | {"used": True}]
    assert [label["name"] for label in read["built_in"]][-1] == "retracted"
    refusal = mesh.refused("PUT", "/v1/labels", {"labels": []}, domain=DOMAIN)
    assert (refusal["status"], refusal["reason"]) == (400, "LABEL_IN_USE")


def test_an_outcome_is_taken_back(mesh: Mesh) -> None:
    before = report(mesh, item(2, "rejected"))["triplets_pending_train"]
    generated = report(mesh, item(3, "accepted"))["triplets_generated"]
    assert generated > 0
    answer = report(mesh, item(3, "retracted"))
    assert (answer["triplets_generated"], answer["triplets_pending_train"]) == (0, before)


def test_a_partial_report_names_what_it_leaves_out(mesh: Mesh) -> None:
    answer = report(mesh, item(4, "rejected"), item(9, "accepted"), partial=True)
    assert answer["accepted"] == 1
    (error,) = answer["errors"]
    assert (error["index"], error["reason"]) == (1, "USER_NOT_FOUND")
    assert error["field"] == "items[1].candidate_id"

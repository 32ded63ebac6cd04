"""Answers and errors as their clients read them."""

import datetime
import json

import grpc
import pytest

from services.chassis.errors import PublicError
from services.gateway.core.errors import FieldInvalidError, TransfersExhaustedError
from services.gateway.core.ids import check_after, new_id
from services.gateway.core.page import page_of
from services.gateway.core.transfers import TRANSFERS_MAX, Transfers
from services.gateway.facades.openai.answers import STATUSES, Json, envelope, refuse
from services.gateway.rpc import ERRORS

NOW = datetime.datetime(2026, 5, 17, 12, 0, 0, 999_999, tzinfo=datetime.UTC)


def test_every_code_has_a_status() -> None:
    assert set(STATUSES) == set(grpc.StatusCode) - {grpc.StatusCode.OK}
    assert {row.code for row in ERRORS.values()} <= set(STATUSES)


@pytest.mark.parametrize("code", STATUSES)
def test_an_error_stands_in_its_envelope_with_what_the_client_acts_by(
    code: grpc.StatusCode,
) -> None:
    response = refuse(PublicError(code, "SOME_REASON", "Why.", {"field": "seed"}))
    assert response.text is not None
    (error,) = json.loads(response.text).values()
    assert error == {
        "message": "Why.",
        "type": STATUSES[code][1],
        "param": "seed",
        "code": "some_reason",
    }
    assert (response.headers.get("x-should-retry") == "false") == (response.status == 409)
    assert ("retry-after" in response.headers) == (response.status in (429, 503))


def test_what_is_too_large_is_no_reason_to_come_again() -> None:
    too_large = PublicError(grpc.StatusCode.RESOURCE_EXHAUSTED, "FILE_TOO_LARGE", "Too large.")
    response = refuse(too_large)
    assert response.status == 413
    assert "retry-after" not in response.headers


def test_a_page_names_its_ends() -> None:
    def write(number: int) -> Json:
        return {"id": number}

    page = page_of([1, 2, 3], 2)
    assert envelope(page, write, ids=True) == {
        "object": "list",
        "data": [{"id": 1}, {"id": 2}],
        "has_more": True,
        "first_id": 1,
        "last_id": 2,
    }
    empty = envelope(page_of([], 2), write, ids=True)
    assert (empty["first_id"], empty["has_more"]) == (None, False)
    assert "first_id" not in envelope(page, write, ids=False)


def test_ids_sort_by_their_making() -> None:
    ids = [new_id("file-", NOW + datetime.timedelta(milliseconds=n)) for n in range(50)]
    assert sorted(ids) == ids
    assert len({new_id("file-", NOW) for _ in range(1_000)}) == 1_000
    check_after("file-", ids[0])
    check_after("file-", "")
    for wrong in ("x", ids[0] + "0", ids[0].upper(), ids[0].replace("file-", "part_")):
        with pytest.raises(FieldInvalidError):
            check_after("file-", wrong)


def test_a_tenant_sends_so_many_bodies_at_once() -> None:
    transfers = Transfers()

    def fill(depth: int) -> None:
        if depth == 0:
            with pytest.raises(TransfersExhaustedError), transfers.slot("acme"):
                pass
            with transfers.slot("globex"):
                return
        with transfers.slot("acme"):
            fill(depth - 1)

    fill(TRANSFERS_MAX)
    fill(TRANSFERS_MAX)  # all places are free again

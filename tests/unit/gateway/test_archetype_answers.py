"""How answers of the Archetype dialect look, and what its addresses vouch for."""

import dataclasses
import datetime
import json
import re
from collections.abc import AsyncIterator

import grpc
import pytest

from services.chassis.errors import PublicError
from services.gateway.core.errors import FieldInvalidError
from services.gateway.core.upload import SPAN_BYTES, spans
from services.gateway.facades.archetype.answers import STATUSES, iso, refuse, typed_id
from services.gateway.facades.archetype.files import base_name, decoded
from services.gateway.facades.archetype.uploads import Address

Code = grpc.StatusCode


def test_every_code_has_a_status_that_the_client_does_not_repeat_blindly() -> None:
    assert set(STATUSES) == set(Code) - {Code.OK}
    assert set(STATUSES.values()) <= {400, 401, 403, 404, 409, 429, 500, 501, 503, 504}


@pytest.mark.parametrize(
    ("code", "reason", "metadata", "status", "told"),
    [
        (Code.INVALID_ARGUMENT, "FIELD_INVALID", {"field": "name"}, 400, "invalid_parameter"),
        (Code.INVALID_ARGUMENT, "FIELD_INVALID", {"field": "file_type"}, 400, "invalid_file_type"),
        (Code.NOT_FOUND, "MODEL_NOT_FOUND", {}, 400, "invalid_model_parameter"),
        (Code.NOT_FOUND, "UPLOAD_NOT_FOUND", {}, 404, "upload_not_found"),
        (Code.RESOURCE_EXHAUSTED, "FILE_TOO_LARGE", {}, 413, "invalid_file_size"),
        (Code.ALREADY_EXISTS, "JOB_EXISTS", {}, 409, "job_exists"),
    ],
)
def test_an_error_is_told_in_its_envelope(
    code: grpc.StatusCode, reason: str, metadata: dict[str, str], status: int, told: str
) -> None:
    response = refuse(PublicError(code, reason, "So it is.", metadata))
    assert response.status == status
    assert response.text is not None
    (error,) = json.loads(response.text)["errors"]
    assert (error["code"], error["message"]) == (told, "So it is.")
    assert re.fullmatch(r"err-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", error["error_uid"])


def test_times_and_ids_have_the_dialects_form() -> None:
    noon = datetime.datetime(2026, 4, 27, 14, 32, 18, 421_000, tzinfo=datetime.UTC)
    assert iso(noon) == "2026-04-27T14:32:18.421000Z"
    made = typed_id("job_", "ftjob-1")
    assert re.fullmatch("job_[0-7][0-9a-hjkmnp-tv-z]{25}", made)
    assert made == typed_id("job_", "ftjob-1") != typed_id("job_", "ftjob-2")


def test_an_address_vouches_for_each_of_its_parts() -> None:
    address = Address("acme", "upload_1", 0, 1_000)
    others = [
        dataclasses.replace(address, **change)
        for change in (
            {"tenant": "globex"},
            {"upload_id": "upload_2"},
            {"number": 1},
            {"expires": 1_001},
        )
    ]
    signatures = {each.signed(b"secret") for each in (address, *others)}
    assert len(signatures | {address.signed(b"other")}) == 6


@pytest.mark.parametrize(
    ("bytes_count", "lengths"),
    [(1, [1]), (SPAN_BYTES, [SPAN_BYTES]), (SPAN_BYTES + 1, [SPAN_BYTES, 1])],
)
def test_numbered_parts_cover_a_file(bytes_count: int, lengths: list[int]) -> None:
    found = spans(bytes_count)
    assert [span.bytes_count for span in found] == lengths
    assert [span.number for span in found] == list(range(len(lengths)))
    assert [span.offset for span in found] == [
        SPAN_BYTES * number for number in range(len(lengths))
    ]


@pytest.mark.parametrize("sizes", [[1, 2, 5, 100], [8], [3, 3, 2]])
async def test_base_64_is_read_however_it_is_cut(sizes: list[int]) -> None:
    text = b"TGluZXMgb2\r\nYgdGV4dA=="

    async def cut() -> AsyncIterator[bytes]:
        start = 0
        for size in (*sizes, 100):
            yield text[start : start + size]
            start += size

    assert b"".join([chunk async for chunk in decoded(cut())]) == b"Lines of text"


@pytest.mark.parametrize("text", [b"T", b"TGlu=", b"TG%u", b"TQ==TQ=="])
async def test_what_is_no_base_64_is_refused(text: bytes) -> None:
    async def whole() -> AsyncIterator[bytes]:
        yield text

    with pytest.raises(FieldInvalidError):
        [chunk async for chunk in decoded(whole())]


def test_a_file_is_found_by_the_last_part_of_its_path() -> None:
    assert base_name("a/b\\c.jsonl") == "c.jsonl"
    for nothing in ("", "a/", ".."):
        with pytest.raises(FieldInvalidError):
            base_name(nothing)

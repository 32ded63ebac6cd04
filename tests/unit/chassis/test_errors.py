"""What is told of an error: it fits into gRPC's headers, and is cut only if it does not."""

import grpc
import pytest

from services.chassis.errors import TEXT_BYTES_MAX, ErrorRow, ErrorTable, describe

TABLE: ErrorTable = {ValueError: ErrorRow(grpc.StatusCode.INVALID_ARGUMENT, "FIELD_INVALID")}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x" * TEXT_BYTES_MAX, "x" * TEXT_BYTES_MAX),
        ("x" * (TEXT_BYTES_MAX + 1), "x" * TEXT_BYTES_MAX + "…"),
        ("x" + "é" * TEXT_BYTES_MAX, "x" + "é" * (TEXT_BYTES_MAX // 2 - 1) + "…"),
    ],
    ids=["as long as may be", "a byte longer", "in the middle of a character"],
)
def test_a_text_is_cut_where_it_is_too_long(text: str, told: str) -> None:
    public = describe(ValueError(text), TABLE)
    assert public is not None
    assert public.message == told

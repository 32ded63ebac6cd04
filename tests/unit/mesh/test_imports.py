"""Rows as the triplet store takes them: cells by the schema's types, batches of bounded size."""

import numpy as np
import pytest
from trine.triplets.v1 import schema_pb2

from services.mesh import imports
from services.mesh.bulk import Rejected
from services.mesh.imports import Importer
from services.mesh.rows import FileRow, Json

Field = schema_pb2.Schema.Field


def importer(encoder: str = "caller", *fields: Field) -> Importer:
    """An importer that is connected to nothing."""
    embedding = schema_pb2.Schema.Embedding(encoder=encoder, dim=2)
    schema = schema_pb2.Schema(domain="dating", fields=fields, embedding=embedding)
    made = Importer.__new__(Importer)
    made._schema = schema
    return made


def row(content: Json, bytes_count: int = 10) -> FileRow:
    """A row of a file."""
    return FileRow(1, content, bytes_count)


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("integer", "31", 31.0),
        ("number", "1e3", 1000.0),
        ("boolean", "Yes", True),
        ("boolean", "0", False),
        ("string", "31", "31"),
        ("list", "calm; tall", ["calm", "tall"]),
        ("list", '["a;b"]', ["a;b"]),
        ("geo", "47.56, -7.59", {"lat": 47.56, "lon": -7.59}),
    ],
)
def test_a_cell_becomes_a_value_of_its_fields_type(kind: str, text: str, value: object) -> None:
    cells = importer("caller", Field(name="it", type=kind)).user_cells()
    assert cells["it"](text) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [("integer", "old"), ("boolean", "maybe"), ("list", "[1"), ("geo", "47"), ("geo", "a,b")],
)
def test_a_cell_that_is_no_such_value_is_refused(kind: str, text: str) -> None:
    cells = importer("caller", Field(name="it", type=kind)).user_cells()
    with pytest.raises(ValueError):  # noqa: PT011  # of any kind
        cells["it"](text)


def test_whatever_is_no_key_of_a_user_is_a_field() -> None:
    user = imports._read_user({"user_id": "ada", "age": 31, "fields": {"city": "Basel"}})
    assert (user.user_id, dict(user.fields)) == ("ada", {"age": 31, "city": "Basel"})


def test_rows_that_cannot_be_said_are_rejected_and_the_others_keep_their_vectors() -> None:
    rows = [
        row({"user_id": "a", "vector": [1, 2]}),
        row({"user_id": "b", "vector": [1]}),
        row({"user_id": 3}),
        row({"user_id": "d"}),
    ]
    sent: list[FileRow] = []
    rejected: list[Rejected] = []
    request = importer()._user_batch(rows, sent, rejected)
    assert [user.user_id for user in request.users] == ["a", "d"]
    assert np.frombuffer(request.vectors, "<f4").tolist() == [1, 2, 0, 0]
    assert sent == [rows[0], rows[3]]
    assert [one.row for one in rejected] == [rows[1], rows[2]]
    assert rejected[0].error == "vector: must be a list of 2 numbers"


def test_a_vector_where_the_mesh_makes_them_is_rejected() -> None:
    rejected: list[Rejected] = []
    request = importer("mini")._user_batch([row({"user_id": "a", "vector": [1, 2]})], [], rejected)
    assert (len(request.users), request.vectors, len(rejected)) == (0, b"", 1)


def test_batches_are_bounded_by_rows_and_by_bytes() -> None:
    small = [row({}) for _ in range(2_500)]
    assert [len(batch) for batch in imports._batches(small)] == [1_000, 1_000, 500]
    large = [row({}, 900_000) for _ in range(5)]
    assert [len(batch) for batch in imports._batches(large)] == [2, 2, 1]
    assert list(imports._batches([])) == []

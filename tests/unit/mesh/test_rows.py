"""Files of rows: what is read of them, and what is said of what cannot be."""

import json
from pathlib import Path

import pytest

from services.mesh.rows import Cells, FileFormatError, FileRow, RowFile

CELLS: Cells = {"id": str, "age": float, "vector": json.loads}


def read(folder: Path, name: str, content: str | bytes) -> list[FileRow]:
    """Rows of a file with this content."""
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(RowFile(path).rows(CELLS))


def test_csv_cells_become_values_and_empty_ones_none(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", 'id,age,vector\nada,31,"[1, 2]"\nbob,,\n')
    assert [row.content for row in rows] == [
        {"id": "ada", "age": 31.0, "vector": [1, 2]},
        {"id": "bob"},
    ]
    assert [(row.line, row.error) for row in rows] == [(2, ""), (3, "")]


def test_a_cell_may_hold_lines_and_the_line_is_where_it_ends(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", 'id,age\n"a\nb",1\n\nc,2\n')
    assert [(row.line, row.content["id"]) for row in rows] == [(3, "a\nb"), (5, "c")]


def test_a_byte_order_mark_is_no_part_of_the_header(tmp_path: Path) -> None:
    (row,) = read(tmp_path, "a.csv", "\ufeffid\nada\n")
    assert row.content == {"id": "ada"}


def test_a_broken_csv_row_says_what_is_wrong(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.csv", "id,age\nada,old\nbob\ncleo,3,4\ndan,4\n")
    assert [row.error for row in rows] == [
        "age: 'old' cannot be read",
        "has 1 cells, the header 2",
        "has 3 cells, the header 2",
        "",
    ]
    assert rows[0].content == {"id": "ada", "age": "old"}


@pytest.mark.parametrize("header", ["", "id,shoe", "id,id"])
def test_a_csv_file_without_known_columns_is_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(FileFormatError, match="columns out of id, age, vector"):
        read(tmp_path, "a.csv", f"{header}\nada,1\n")


def test_a_csv_file_that_is_no_utf_8_is_refused_by_its_line(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match="line 2"):
        read(tmp_path, "a.csv", b"id\n\xff\n")


def test_json_lines_are_objects(tmp_path: Path) -> None:
    rows = read(tmp_path, "a.jsonl", b'{"id": "ada"}\n\n[1]\n{"id":\n{"id": "\xff"}\n{"id": "bob"}')
    assert [(row.line, bool(row.error)) for row in rows] == [
        (1, False),
        (3, True),
        (4, True),
        (5, True),
        (6, False),
    ]
    assert rows[-1].content == {"id": "bob"}


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"must end in \.csv"):
        read(tmp_path, "a.xlsx", "")

"""Imports of a file: every row is sent, whatever breaks off; the rejected ones are told."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console

from services.mesh import bulk
from services.mesh.bulk import ImportCount, Rejected, import_file
from services.mesh.rows import FileFormatError, FileRow


class BrokenOffError(Exception):
    """The connection is gone."""


class Receiver:
    """Takes rows until it breaks; rejects those whose number ends in 7."""

    def __init__(self, chunks_left: int = 1_000) -> None:
        self.chunks_left = chunks_left
        self.numbers: list[int] = []

    async def send(self, rows: Sequence[FileRow]) -> list[Rejected]:
        self.chunks_left -= 1
        if self.chunks_left < 0:
            raise BrokenOffError
        self.numbers += [row.content["n"] for row in rows]
        return [Rejected(row, "seven") for row in rows if row.content["n"] % 10 == 7]


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hundred rows, one of them broken, in chunks of eight."""
    monkeypatch.setattr(bulk, "CHUNK_ROWS", 8)
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps({"n": number}) for number in range(100)]
    lines[50] = "broken"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture
def one_row(file: Path) -> Path:
    """The file with a single, sound row."""
    file.write_text('{"n": 1}\n')
    return file


def names_in(folder: Path) -> set[str]:
    """Files in a folder."""
    return {path.name for path in folder.iterdir()}


async def run(file: Path, receiver: Receiver, goal: str = "dating/users") -> ImportCount:
    """Imports the file."""
    return await import_file(file, goal, {}, receiver.send, Console(quiet=True))


def rejected(file: Path) -> list[int]:
    """Lines that were rejected."""
    text = file.with_name("rows.jsonl.rejected.jsonl").read_text()
    return [json.loads(line)["line"] for line in text.splitlines()]


EXPECTED = sorted([51, *range(8, 101, 10)])


async def test_every_row_is_sent_and_the_rejected_ones_are_written_with_their_lines(
    file: Path,
) -> None:
    receiver = Receiver()
    assert await run(file, receiver) == ImportCount(100, 11)
    assert receiver.numbers == [n for n in range(100) if n != 50]
    assert rejected(file) == EXPECTED
    assert names_in(file.parent) == {"rows.jsonl", "rows.jsonl.rejected.jsonl"}


@pytest.mark.parametrize("chunks", [0, 1, 6, 7, 12])
async def test_an_import_that_was_broken_off_goes_on_where_it_was(file: Path, chunks: int) -> None:
    first, second = Receiver(chunks), Receiver()
    with pytest.raises(BrokenOffError):
        await run(file, first)
    # Written, but the note was not: such rows are written anew.
    with file.with_name("rows.jsonl.rejected.jsonl").open("a") as output:
        output.write('{"line": 999}\n')
    assert await run(file, second) == ImportCount(100, 11)
    assert first.numbers + second.numbers == [n for n in range(100) if n != 50]
    assert rejected(file) == EXPECTED


async def test_a_note_of_another_import_is_not_followed(file: Path) -> None:
    with pytest.raises(BrokenOffError):
        await run(file, Receiver(1))
    with pytest.raises(FileFormatError, match="dating/users"):
        await run(file, Receiver(), "hiring/users")


async def test_nothing_is_left_where_all_rows_were_taken(one_row: Path) -> None:
    assert await run(one_row, Receiver()) == ImportCount(1, 0)
    assert names_in(one_row.parent) == {"rows.jsonl"}

"""Bringing a file in: chunk by chunk, with a note beside the file of how far it has come.

The note is written when a chunk has been answered. An import that was broken off goes on from
there; what it sends again changes nothing.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from os import SEEK_END
from pathlib import Path
from typing import BinaryIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

from services.mesh.rows import Cells, FileFormatError, FileRow, Json, RowFile

CHUNK_ROWS = 2_000


@dataclass(frozen=True, slots=True)
class Rejected:
    """A row that was not taken, and why."""

    row: FileRow
    error: str


Send = Callable[[Sequence[FileRow]], Awaitable[Sequence[Rejected]]]
"""Sends rows and returns those that were not taken."""


@dataclass(slots=True)
class ImportCount:
    """What became of a file's rows."""

    rows: int = 0
    rejected: int = 0


class Note:
    """How far an import has come: a file beside the imported one, gone at its end."""

    def __init__(self, path: Path, goal: str) -> None:
        self._path = path.with_name(f"{path.name}.offset")
        self._goal = goal
        self.rejected_bytes = 0

    def read(self) -> ImportCount:
        """Where to go on."""
        if not self._path.exists():
            return ImportCount()
        content = json.loads(self._path.read_text())
        if content["goal"] != self._goal:
            raise FileFormatError(
                f"{self._path.name} is of an import into {content['goal']}; remove it to start anew"
            )
        self.rejected_bytes = content["rejected_bytes"]
        return ImportCount(content["rows"], content["rejected"])

    def write(self, count: ImportCount, rejected_bytes: int) -> None:
        """Takes note, at once or not at all."""
        content = {
            "goal": self._goal,
            "rows": count.rows,
            "rejected": count.rejected,
            "rejected_bytes": rejected_bytes,
        }
        part = self._path.with_name(f"{self._path.name}.part")
        part.write_text(json.dumps(content) + "\n")
        part.replace(self._path)

    def remove(self) -> None:
        """The import is complete."""
        self._path.unlink(missing_ok=True)


async def import_file(
    path: Path, goal: str, cells: Cells, send: Send, console: Console
) -> ImportCount:
    """Imports a file into `goal`; rows that are not taken go to <file>.rejected.jsonl.

    Raises:
        FileFormatError: the file cannot be read.
    """
    file, note = RowFile(path), Note(path, goal)
    count = note.read()
    rejects = path.with_name(f"{path.name}.rejected.jsonl")
    with rejects.open("ab") as output, _progress(console) as progress:
        output.truncate(note.rejected_bytes)
        output.seek(0, SEEK_END)
        task = progress.add_task(path.name, total=file.bytes_count, rows=count.rows)
        rows = islice(file.rows(cells), count.rows, None)
        async for chunk in _chunks(rows):
            rejected = [Rejected(row, row.error) for row in chunk if row.error]
            rejected += await send([row for row in chunk if not row.error])
            _write_rejected(output, rejected)
            count.rows += len(chunk)
            count.rejected += len(rejected)
            note.write(count, output.tell())
            progress.update(task, completed=file.bytes_read, rows=count.rows)
    note.remove()
    if not count.rejected:
        rejects.unlink()
    return count


async def _chunks(rows: Iterator[FileRow]) -> AsyncIterator[list[FileRow]]:
    """Chunks, of which the next one is read while one is sent: both take about as long."""
    reading = asyncio.create_task(asyncio.to_thread(_take, rows))
    while chunk := await reading:
        reading = asyncio.create_task(asyncio.to_thread(_take, rows))
        yield chunk


def _take(rows: Iterator[FileRow]) -> list[FileRow]:
    return list(islice(rows, CHUNK_ROWS))


def _write_rejected(output: BinaryIO, rejected: Sequence[Rejected]) -> None:
    for one in sorted(rejected, key=lambda one: one.row.line):
        content: Json = {"line": one.row.line, "error": one.error, "row": one.row.content}
        output.write(json.dumps(content, ensure_ascii=False).encode() + b"\n")
    output.flush()


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeElapsedColumn(),
        console=console,
    )

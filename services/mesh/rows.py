"""Files of people and outcomes, row by row: CSV with a header, or JSON objects a line."""

import csv
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import orjson

Json = dict[str, Any]
Cells = Mapping[str, Callable[[str], object]]
"""How a CSV column's text becomes a value, by the column's name."""

CELL_CHARACTERS_MAX = 1_000_000


class FileFormatError(Exception):
    """The file as a whole cannot be read."""


@dataclass(frozen=True, slots=True)
class FileRow:
    """One row, or what is wrong with it."""

    line: int
    """Where it ends, from 1."""
    content: Json
    bytes_count: int
    """Of the file."""
    error: str = ""


class RowFile:
    """A file that is read once, from its start."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.bytes_count = path.stat().st_size
        self.bytes_read = 0
        self.is_csv = path.suffix.lower() == ".csv"
        if not self.is_csv and path.suffix.lower() not in {".jsonl", ".ndjson"}:
            raise FileFormatError(f"{path.name} must end in .csv, .jsonl or .ndjson")

    def rows(self, cells: Cells) -> Iterator[FileRow]:
        """All rows; an empty cell of a CSV file is no value.

        Raises:
            FileFormatError: a CSV file has no header, or a column that `cells` does not know.
        """
        with self._path.open("rb") as file:
            yield from self._csv(file, cells) if self.is_csv else self._json_lines(file)

    def _json_lines(self, file: BinaryIO) -> Iterator[FileRow]:
        for number, line in enumerate(file, 1):
            self.bytes_read += len(line)
            if not line.strip():
                continue
            try:
                content = orjson.loads(line.removeprefix(BOM_UTF8) if number == 1 else line)
            except orjson.JSONDecodeError as error:  # of a text that is no UTF-8 as well
                yield FileRow(number, {}, len(line), f"is no JSON: {error}")
                continue
            if isinstance(content, dict):
                yield FileRow(number, content, len(line))
            else:
                yield FileRow(number, {}, len(line), "must be a JSON object")

    def _lines(self, file: BinaryIO) -> Iterator[str]:
        for number, line in enumerate(file, 1):
            self.bytes_read += len(line)
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise FileFormatError(f"line {number} is no UTF-8: {error}") from error

    def _csv(self, file: BinaryIO, cells: Cells) -> Iterator[FileRow]:
        csv.field_size_limit(CELL_CHARACTERS_MAX)
        reader = csv.reader(self._lines(file))
        header = next(reader, [])
        unknown = [name for name in header if name not in cells]
        if not header or unknown or len(set(header)) < len(header):
            known = ", ".join(cells)
            wrong = ", ".join(unknown) or "the header"
            raise FileFormatError(f"{wrong}: the first line must name columns out of {known}")
        start = self.bytes_read
        for row in reader:
            bytes_count, start = self.bytes_read - start, self.bytes_read
            if not row:
                continue
            texts = dict(zip(header, row, strict=False))
            if len(row) == len(header):
                content, error = _read_cells(texts, cells)
            else:
                content, error = {**texts}, f"has {len(row)} cells, the header {len(header)}"
            yield FileRow(reader.line_num, content, bytes_count, error)


def _read_cells(texts: Mapping[str, str], cells: Cells) -> tuple[Json, str]:
    content: Json = {}
    for name, text in texts.items():
        if not text:
            continue
        try:
            content[name] = cells[name](text)
        except ValueError:
            return {**texts}, f"{name}: {text[:100]!r} cannot be read"
    return content, ""

"""Training files as arrays: lines in, anchors' words about items and triplets of them out.

Only hashes, numbers and the items of the running batch are held: a file is never whole in memory.
"""

import hashlib
import struct
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.triplets.core.training_line import Form, Item, Line, LineError, Person, parse_line

LINE_BYTES_MAX = 512 * 1024
LINES_MAX = 100_000
"""Of training and validation file together: each has texts to be encoded."""
ERRORS_TOLD_MAX = 10
HELD_OUT_LINES_MIN = 50
"""A training file without a validation file and fewer lines is learned from as a whole."""
HELD_OUT_SHARE = 10
"""One of so many anchors is held out."""
NEGATIVES_MAX = 32
"""Of one outcome; the next begins a further outcome of the same pair."""
NO_NEGATIVE = -1
METHODS = {
    "supervised": frozenset({Form.CHAT}),
    "dpo": frozenset({Form.TRIPLET, Form.PREFERENCE}),
    "triplet": frozenset({Form.TRIPLET, Form.PREFERENCE}),
}
"""What forms a method reads."""
_METHOD_OF = {Form.TRIPLET: "triplet", Form.PREFERENCE: "dpo", Form.CHAT: "supervised"}
_POSITIVE, _NEGATIVE = 2, 0

Key = bytes
"""Stands for an item: equal items have equal keys."""


def item_key(item: Item) -> Key:
    """The key of an item: 16 bytes of its BLAKE2b."""
    if isinstance(item, str):
        content = b"t" + item.encode()
    elif isinstance(item, Person):
        content = f"p{item.domain}\0{item.user_id}".encode()
    else:
        content = b"v" + struct.pack(f"<{len(item)}d", *item)
    return hashlib.blake2b(content, digest_size=16).digest()


class LineReader:
    """Reads a file's lines out of its chunks and notes what is wrong with them."""

    def __init__(self, dim: int, method: str) -> None:
        self._dim = dim
        self._method = method
        self._form: Form | None = None
        self._rest = b""
        self._number = 0
        self._good_count = 0
        self.errors: list[str] = []
        self.given_up = False
        """Nothing more is read."""

    @property
    def method(self) -> str:
        """How to learn from the lines; empty before the first."""
        return self._method or (_METHOD_OF[self._form] if self._form else "")

    @property
    def lines_count(self) -> int:
        """Good lines so far."""
        return self._good_count

    def read(self, chunk: bytes) -> list[tuple[int, Line]]:
        """Takes in a chunk and returns the lines that it completes, by number from 1."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        found = self._parse(lines)
        if len(self._rest) > LINE_BYTES_MAX and not self.given_up:
            self.complain(self._number + 1, f"has more than {LINE_BYTES_MAX} bytes")
            self.given_up = True  # where the next line begins may be gigabytes away
        return found

    def end(self) -> list[tuple[int, Line]]:
        """Returns the last line, if no line break ended it."""
        rest, self._rest = self._rest, b""
        return self._parse([rest])

    def complain(self, number: int, problem: str) -> None:
        """Notes what is wrong with a line; of many, the first few are enough."""
        self.errors.append(f"line {number}: {problem}")
        self.given_up = self.given_up or len(self.errors) >= ERRORS_TOLD_MAX

    def _parse(self, lines: Sequence[bytes]) -> list[tuple[int, Line]]:
        found: list[tuple[int, Line]] = []
        for text in lines:
            if self.given_up:
                break
            self._number += 1
            if self._number == 1:
                text = text.removeprefix(b"\xef\xbb\xbf")  # noqa: PLW2901  # a mark of UTF-8
            if not text.strip():
                continue
            try:
                found.append((self._number, self._check(text)))
            except LineError as error:
                self.complain(self._number, str(error))
        self._good_count += len(found)
        return found

    def _check(self, text: bytes) -> Line:
        if len(text) > LINE_BYTES_MAX:
            raise LineError(f"has more than {LINE_BYTES_MAX} bytes")
        line = parse_line(text, self._dim)
        if self._form is None:
            if self._method and line.form not in METHODS[self._method]:
                forms = " or ".join(sorted(METHODS[self._method]))
                raise LineError(f"is a {line.form}; the method {self._method} reads a {forms}")
            self._form = line.form
        if line.form is not self._form:
            raise LineError(f"is a {line.form}, and those before are of the form {self._form}")
        return line


@dataclass(frozen=True, slots=True, kw_only=True)
class FileArrays:
    """The content of files: U items, n outcomes, m triplets; see CreateFileSnapshotResponse."""

    encoder: str
    method: str
    tokens_count: int
    """Of one pass over the lines that are learned from."""
    item_hashes: npt.NDArray[np.int64]
    vectors: npt.NDArray[np.float16]
    """[U, dim]"""
    seekers: npt.NDArray[np.int32]
    candidates: npt.NDArray[np.int32]
    levels: npt.NDArray[np.int8]
    held_out: npt.NDArray[np.uint8]
    triplets: npt.NDArray[np.int32]
    """[m, 3], sorted by the positive outcome."""
    triplet_weights: npt.NDArray[np.float32]


class Gatherer:
    """Numbers items and forms outcomes and triplets, in the order of the lines."""

    def __init__(self) -> None:
        self._numbers: dict[Key, int] = {}
        self._new: list[Item] = []
        self._outcomes: list[tuple[int, int, int, int]] = []
        self._rows: dict[tuple[int, int, int, int], int] = {}
        self._negatives_counts: Counter[int] = Counter()
        self._triplets: list[tuple[int, int, int]] = []
        self._weights: list[float] = []
        self.uses: Counter[int] = Counter()
        """By item: lines that it is learned from in."""
        self.held_out_lines_count = 0

    @property
    def items_count(self) -> int:
        """Distinct items so far."""
        return len(self._numbers)

    def add(self, line: Line, *, held_out: bool) -> None:
        """Takes in a line."""
        items = [line.anchor, line.positive, *([] if line.negative is None else [line.negative])]
        numbers = [self._number(item) for item in items]
        self.held_out_lines_count += held_out
        if not held_out:
            self.uses.update(numbers)
        anchor, positive = numbers[:2]
        row = self._row(anchor, positive, _POSITIVE, held_out)
        negative = NO_NEGATIVE
        if line.negative is not None:
            negative = self._row(anchor, numbers[2], _NEGATIVE, held_out)
            if self._negatives_counts[row] == NEGATIVES_MAX:
                del self._rows[anchor, positive, _POSITIVE, int(held_out)]
                row = self._row(anchor, positive, _POSITIVE, held_out)
            self._negatives_counts[row] += 1
        self._triplets.append((anchor, row, negative))
        self._weights.append(line.weight)

    def take_new(self) -> list[Item]:
        """Items that have come up since the last call, by number."""
        new, self._new = self._new, []
        return new

    def arrays(
        self, encoder: str, method: str, vectors: npt.NDArray[np.float16], tokens: Sequence[int]
    ) -> FileArrays:
        """All of it, with the items' vectors [U, dim] and tokens [U]."""
        outcomes = np.array(self._outcomes, np.int32).reshape(-1, 4)
        triplets = np.array(self._triplets, np.int32).reshape(-1, 3)
        order = np.argsort(triplets[:, 1], kind="stable")
        return FileArrays(
            encoder=encoder,
            method=method,
            tokens_count=sum(uses * tokens[item] for item, uses in self.uses.items()),
            item_hashes=np.frombuffer(b"".join(self._numbers), "<i8")[::2].astype(np.int64),
            vectors=vectors,
            seekers=outcomes[:, 0],
            candidates=outcomes[:, 1],
            levels=outcomes[:, 2].astype(np.int8),
            held_out=outcomes[:, 3].astype(np.uint8),
            triplets=triplets[order],
            triplet_weights=np.array(self._weights, np.float32)[order],
        )

    def _number(self, item: Item) -> int:
        key = item_key(item)
        number = self._numbers.get(key)
        if number is None:
            number = self._numbers[key] = len(self._numbers)
            self._new.append(item)
        return number

    def _row(self, anchor: int, item: int, level: int, held_out: bool) -> int:
        outcome = (anchor, item, level, int(held_out))
        row = self._rows.get(outcome)
        if row is None:
            row = self._rows[outcome] = len(self._outcomes)
            self._outcomes.append(outcome)
        return row

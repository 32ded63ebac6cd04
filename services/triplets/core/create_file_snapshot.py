"""Freezing training files into arrays: first every line is checked, then the texts are encoded.

What is wrong with a file is known before an encoder has worked for it; that costs reading it twice.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from services.triplets.core.errors import (
    FieldInvalidError,
    TrainingFileInvalidError,
    ValidationFileInvalidError,
)
from services.triplets.core.file_dataset import (
    HELD_OUT_LINES_MIN,
    HELD_OUT_SHARE,
    LINES_MAX,
    METHODS,
    FileArrays,
    Gatherer,
    Key,
    LineReader,
    item_key,
)
from services.triplets.core.ports import (
    CountingEncoder,
    FileGoneError,
    FileShelf,
    TripletStore,
)
from services.triplets.core.training_line import Item, Line, Person

ENCODED_TEXTS = 256
"""Of one call to the encoder."""
PEOPLE_MAX = 20_000
"""Of one pair of files; each is looked up."""

Vector = npt.NDArray[np.float16]
Lines = list[tuple[int, Line]]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileSnapshot:
    """Frozen files in the artifact store."""

    digest: str
    training_lines_count: int
    validation_lines_count: int
    held_out_lines_count: int
    items_count: int
    tokens_count: int
    method: str


@dataclass(slots=True)
class _Checked:
    """What reading the files once has told."""

    method: str = ""
    lines_counts: list[int] = field(default_factory=list)
    anchors: set[Key] = field(default_factory=set)
    """Of the training file."""
    pairs: set[Key] = field(default_factory=set)
    """Anchor and positive of each line of the training file."""
    people: dict[Person, Vector] = field(default_factory=dict)


async def create_file_snapshot(
    store: TripletStore,
    encoder: CountingEncoder,
    shelf: FileShelf,
    *,
    tenant: str,
    training: str,
    validation: str,
    method: str,
) -> FileSnapshot:
    """Checks files by their digests, encodes them and stores a snapshot of them.

    Raises:
        EncoderUnavailableError: texts cannot be encoded.
        FieldInvalidError: there is no such method.
        TrainingFileInvalidError, ValidationFileInvalidError: a file cannot be used.
    """
    if method and method not in METHODS:
        raise FieldInvalidError("method", f"must be one of {', '.join(METHODS)}")
    digests = [training, validation] if validation else [training]
    checked = _Checked(method)
    for digest in digests:
        await _check(store, shelf, encoder, tenant=tenant, digest=digest, checked=checked)
    held_out = frozenset() if validation else _held_out(checked)
    gatherer, vectors = Gatherer(), _Vectors(encoder, checked.people)
    for number, digest in enumerate(digests):
        reader = LineReader(encoder.dim, checked.method)

        def gather(lines: Lines, *, of_validation: bool = number == 1) -> None:
            for _, line in lines:
                held = of_validation or item_key(line.anchor) in held_out
                gatherer.add(line, held_out=held)

        async for _ in _read(shelf, digest, reader, gather, _ERRORS[number]):
            await vectors.add(gatherer.take_new())
    await vectors.end()

    def gathered() -> FileArrays:
        return gatherer.arrays(encoder.name, checked.method, vectors.stacked(), vectors.tokens)

    arrays = await asyncio.to_thread(gathered)  # seconds, of a hundred thousand lines
    return FileSnapshot(
        digest=await shelf.write_files(arrays),
        training_lines_count=checked.lines_counts[0],
        validation_lines_count=sum(checked.lines_counts[1:]),
        held_out_lines_count=gatherer.held_out_lines_count,
        items_count=gatherer.items_count,
        tokens_count=arrays.tokens_count,
        method=checked.method,
    )


_ERRORS = (TrainingFileInvalidError, ValidationFileInvalidError)
InvalidError = type[TrainingFileInvalidError] | type[ValidationFileInvalidError]


async def _check(
    store: TripletStore,
    shelf: FileShelf,
    encoder: CountingEncoder,
    *,
    tenant: str,
    digest: str,
    checked: _Checked,
) -> None:
    """Reads a file once; what it tells goes into `checked`.

    Raises:
        TrainingFileInvalidError, ValidationFileInvalidError: it cannot be used.
    """
    place = len(checked.lines_counts)
    invalid = _ERRORS[place]
    reader = LineReader(encoder.dim, checked.method)
    people: dict[Person, int] = {}

    def note(lines: Lines) -> None:
        _note(lines, reader, people, checked)

    async for _ in _read(shelf, digest, reader, note, invalid):
        if reader.lines_count + sum(checked.lines_counts) > LINES_MAX:
            raise invalid(f"there are more than {LINES_MAX} lines")
        if len(people) + len(checked.people) > PEOPLE_MAX:
            raise invalid(f"there are more than {PEOPLE_MAX} people")
        if reader.given_up:
            break
    await _look_up(store, encoder, tenant, people=people, reader=reader, checked=checked)
    if reader.errors:
        raise invalid("; ".join(reader.errors))
    if not reader.lines_count:
        raise invalid("it has no lines")
    checked.method = reader.method
    checked.lines_counts.append(reader.lines_count)


def _note(lines: Lines, reader: LineReader, people: dict[Person, int], checked: _Checked) -> None:
    """Notes whom lines name, and anchors and pairs; those of a validation file must be new."""
    of_validation = bool(checked.lines_counts)
    for number, line in lines:
        people.update((person, number) for person in _people(line) if person not in people)
        anchor = item_key(line.anchor)
        pair = anchor + item_key(line.positive)
        if not of_validation:
            checked.anchors.add(anchor)
            checked.pairs.add(pair)
        elif pair in checked.pairs and not reader.given_up:
            reader.complain(number, "anchor and positive are in the training file too")


async def _read(
    shelf: FileShelf,
    digest: str,
    reader: LineReader,
    take: Callable[[Lines], None],
    invalid: InvalidError,
) -> AsyncIterator[None]:
    """Hands a file's lines to `take`, chunk by chunk and off the loop."""
    try:
        async for chunk in shelf.stream_file(digest):
            await asyncio.to_thread(lambda chunk: take(reader.read(chunk)), chunk)
            yield
    except FileGoneError:
        raise invalid("it is not there any more, or not as it was") from None
    take(reader.end())
    yield


async def _look_up(
    store: TripletStore,
    encoder: CountingEncoder,
    tenant: str,
    *,
    people: Mapping[Person, int],
    reader: LineReader,
    checked: _Checked,
) -> None:
    """Finds the vectors of people, by the line that first names them."""
    for person, number in people.items():
        if reader.given_up:
            return
        if person in checked.people:
            continue
        stored = await store.read_profile(tenant, person.domain, person.user_id)
        profile = None if stored is None else stored.profile
        if profile is None or profile.vector is None or profile.encoder != encoder.name:
            problem = "not there" if profile is None else f"without a vector of {encoder.name}"
            reader.complain(
                number, f"the person {person.user_id!r} of {person.domain!r} is {problem}"
            )
        else:
            checked.people[person] = profile.vector


def _people(line: Line) -> list[Person]:
    items = (line.anchor, line.positive, line.negative)
    return [item for item in items if isinstance(item, Person)]


def _held_out(checked: _Checked) -> frozenset[Key]:
    """Anchors whose lines nobody learns from: a tenth, chosen by their hashes; none of a few."""
    if checked.lines_counts[0] < HELD_OUT_LINES_MIN:
        return frozenset()
    return frozenset(sorted(checked.anchors)[: len(checked.anchors) // HELD_OUT_SHARE])


class _Vectors:
    """Vectors of items, by number; texts go to the encoder in batches."""

    def __init__(self, encoder: CountingEncoder, people: Mapping[Person, Vector]) -> None:
        self._encoder = encoder
        self._people = people
        self._vectors: list[Vector | None] = []
        self._texts: list[tuple[int, str]] = []
        self.tokens: list[int] = []
        """By item; 0 for what is no text."""

    async def add(self, items: list[Item]) -> None:
        """Takes in the next items."""
        for item in items:
            self.tokens.append(0)
            if isinstance(item, str):
                self._texts.append((len(self._vectors), item))
                self._vectors.append(None)
            elif isinstance(item, Person):
                self._vectors.append(self._people[item])
            else:
                self._vectors.append(np.array(item, np.float16))
        while len(self._texts) >= ENCODED_TEXTS:
            await self._encode()

    async def end(self) -> None:
        """Encodes the texts that are left."""
        while self._texts:
            await self._encode()

    def stacked(self) -> Vector:
        """[items, dim]."""
        found = [vector for vector in self._vectors if vector is not None]
        assert len(found) == len(self._vectors), "texts are left"
        return np.stack(found)

    async def _encode(self) -> None:
        batch, self._texts = self._texts[:ENCODED_TEXTS], self._texts[ENCODED_TEXTS:]
        vectors, tokens = await self._encoder.encode_counted([text for _, text in batch])
        for (number, _), vector, count in zip(batch, vectors, tokens, strict=True):
            self._vectors[number] = vector
            self.tokens[number] = count

"""All candidates of one domain, as columns in memory.

Rows are only ever appended: a changed person gets a new row and the old one dies. Readers work on a
`View`, an immutable picture of who is alive where; a batch of changes builds the next view and
publishes it with one assignment. So a match sees each person entirely before or entirely after a
change, and takes no lock.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.serving.core.list_codes import NO_LISTS, ListCodes, ListRows
from services.serving.core.seen import Seen

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

_FIRST_ROWS = 256
_DEAD_SHARE_MAX = 0.5


@dataclass(frozen=True, slots=True)
class FieldSpec:
    """One field of the domain's schema, as far as matching needs it."""

    name: str
    kind: str
    type: str
    members: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Layout:
    """What a person's row consists of."""

    version: str
    fields: tuple[FieldSpec, ...]
    encoder: str
    dim: int
    reciprocal: bool = False
    """Whether a match needs both people."""

    @property
    def columns(self) -> tuple[FieldSpec, ...]:
        """Fields that are numbers, in the order of the columns."""
        others = {"string", "list", "geo"}
        return tuple(f for f in self.fields if f.kind != "soft" and f.type not in others)

    @property
    def strings(self) -> tuple[FieldSpec, ...]:
        """Fields that are strings to filter by, in the order of the codes."""
        return self._hard("string")

    @property
    def lists(self) -> tuple[FieldSpec, ...]:
        """Fields that are lists of strings to filter by, in the order of their codes."""
        return self._hard("list")

    @property
    def points(self) -> tuple[FieldSpec, ...]:
        """Fields that are places to filter by, in the order of the points."""
        return self._hard("geo")

    def _hard(self, kind: str) -> tuple[FieldSpec, ...]:
        return tuple(f for f in self.fields if f.kind == "hard" and f.type == kind)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProfileRows:
    """New or changed people: n rows."""

    user_ids: Sequence[str]
    numbers: npt.NDArray[np.int32]
    vectors: npt.NDArray[np.float16]
    columns: npt.NDArray[np.float64]
    strings: Mapping[str, Sequence[str]]
    lists: Mapping[str, ListRows] = dataclasses.field(default_factory=dict)
    points: Mapping[str, npt.NDArray[np.float64]] = dataclasses.field(default_factory=dict)
    """[n, 2] Latitude and longitude in degrees, NaN for no value."""


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """A picture of a domain at one moment. Rows beyond `size` belong to later views."""

    size: int
    generation: int
    """Grows when rows move: what knows rows by their place, such as an index, is void then."""
    alive: Mask
    """[size]"""
    alive_count: int
    row_of: npt.NDArray[np.int32]
    """[users] Row of each user's number, -1 for a number that has none."""
    numbers: npt.NDArray[np.int32]
    """[rows] User's number of each row."""
    vectors: Floats
    """[rows, dim]"""
    features: Floats
    """[rows, columns] What heads read."""
    columns: Sequence[npt.NDArray[np.float64]]
    """One [rows] a column: what filters compare, exact where float32 would round."""
    codes: Sequence[npt.NDArray[np.int32]]
    """One [rows] a string field: index of the string in the field's dictionary, -1 for none."""
    lists: Sequence[ListCodes]
    """One a list field."""
    points: Sequence[npt.NDArray[np.float64]]
    """One [rows, 2] a geo field: latitude and longitude in degrees, NaN for none."""


class Partition:
    """The candidates of one tenant and domain. One thread writes, any number reads views."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.revision = -1
        self.user_ids: list[str] = []
        """By number."""
        self.number_of: dict[str, int] = {}
        self.counts: Floats = np.zeros((0, 4), np.float32)
        """[users, 4] by number; changed in place, being statistics rather than facts."""
        self.seen = Seen()
        self.string_codes: list[dict[str, int]] = [{} for _ in layout.strings]
        self.list_codes: list[dict[str, int]] = [{} for _ in layout.lists]
        self.view = self._empty(_FIRST_ROWS)

    def apply_profiles(self, rows: ProfileRows) -> None:
        """Adds or replaces people and publishes the next view."""
        if not len(rows.numbers):
            return
        view = self._with_room(len(rows.numbers))
        start, end = view.size, view.size + len(rows.numbers)
        view.numbers[start:end] = rows.numbers
        view.vectors[start:end] = rows.vectors
        view.features[start:end] = rows.columns
        for column, values in zip(view.columns, rows.columns.T, strict=True):
            column[start:end] = values
        for spec, codes, field in zip(
            self.layout.strings, self.string_codes, view.codes, strict=True
        ):
            strings = rows.strings[spec.name]
            field[start:end] = [codes.setdefault(s, len(codes)) if s else -1 for s in strings]
        lists = [
            entries.extended(start, rows.lists[spec.name], codes)
            for spec, codes, entries in zip(
                self.layout.lists, self.list_codes, view.lists, strict=True
            )
        ]
        for spec, points in zip(self.layout.points, view.points, strict=True):
            points[start:end] = rows.points[spec.name]
        row_of = self._number_users(rows, view.row_of)
        alive = np.concatenate([view.alive, np.ones(len(rows.numbers), np.bool_)])
        before = row_of[rows.numbers]
        alive[before[before >= 0]] = False
        row_of[rows.numbers] = np.arange(start, end, dtype=np.int32)
        self.view = View(
            size=end,
            generation=view.generation,
            alive=alive,
            alive_count=int(alive.sum()),
            row_of=row_of,
            numbers=view.numbers,
            vectors=view.vectors,
            features=view.features,
            columns=view.columns,
            codes=view.codes,
            lists=lists,
            points=view.points,
        )

    def apply_removals(self, numbers: npt.NDArray[np.int32]) -> None:
        """Takes people out and publishes the next view.

        Their numbers stay unused. Their ids stay in `user_ids`: a match that has begun may still
        name them.
        """
        view = self.view
        known = numbers[numbers < len(view.row_of)]
        row_of, alive = view.row_of.copy(), view.alive.copy()
        rows = row_of[known]
        alive[rows[rows >= 0]] = False
        row_of[known] = -1
        for number in known.tolist():
            if self.number_of.get(self.user_ids[number]) == number:
                del self.number_of[self.user_ids[number]]
        self.counts[known] = 0
        self.seen.forget(known)
        self.view = dataclasses.replace(
            view, alive=alive, alive_count=int(alive.sum()), row_of=row_of
        )

    def apply_tallies(self, numbers: npt.NDArray[np.int32], counts: npt.NDArray[np.int32]) -> None:
        """Replaces what outcomes say of people."""
        self.counts[numbers] = counts

    def _number_users(
        self, rows: ProfileRows, row_of: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.int32]:
        """Returns a copy of `row_of` with room for the batch's numbers, and remembers their ids."""
        users = max(len(row_of), int(rows.numbers.max()) + 1)
        self.user_ids += [""] * (users - len(self.user_ids))
        for number, user_id in zip(rows.numbers.tolist(), rows.user_ids, strict=True):
            self.user_ids[number] = user_id
            self.number_of[user_id] = number
        if len(self.counts) < users:
            counts = np.zeros((max(users, 2 * len(self.counts)), 4), np.float32)
            counts[: len(self.counts)] = self.counts
            self.counts = counts
        grown = np.full(users, -1, np.int32)
        grown[: len(row_of)] = row_of
        return grown

    def _with_room(self, rows: int) -> View:
        """Returns the view, its arrays enlarged or freed of the dead if the rows do not fit."""
        view = self.view
        if view.size + rows <= len(view.numbers):
            return view
        keep = np.flatnonzero(view.alive)
        if len(keep) > view.size * (1 - _DEAD_SHARE_MAX):
            keep = np.arange(view.size)
        bigger = self._empty(max(_FIRST_ROWS, 2 * (len(keep) + rows)))
        bigger.numbers[: len(keep)] = view.numbers[keep]
        bigger.vectors[: len(keep)] = view.vectors[keep]
        bigger.features[: len(keep)] = view.features[keep]
        pairs = [*zip(bigger.columns, view.columns, strict=True)]
        pairs += zip(bigger.codes, view.codes, strict=True)  # type: ignore[arg-type]  # arrays all
        pairs += zip(bigger.points, view.points, strict=True)
        for new, old in pairs:
            new[: len(keep)] = old[keep]
        row_of = np.full(len(view.row_of), -1, np.int32)
        alive = view.alive[keep]
        row_of[view.numbers[keep][alive]] = np.flatnonzero(alive)
        return View(
            size=len(keep),
            generation=view.generation + (len(keep) < view.size),
            alive=alive,
            alive_count=view.alive_count,
            row_of=row_of,
            numbers=bigger.numbers,
            vectors=bigger.vectors,
            features=bigger.features,
            columns=bigger.columns,
            codes=bigger.codes,
            lists=[entries.moved(keep) for entries in view.lists],
            points=bigger.points,
        )

    def _empty(self, rows: int) -> View:
        layout = self.layout
        return View(
            size=0,
            generation=0,
            alive=np.zeros(0, np.bool_),
            alive_count=0,
            row_of=np.zeros(0, np.int32),
            numbers=np.zeros(rows, np.int32),
            vectors=np.zeros((rows, layout.dim), np.float32),
            features=np.zeros((rows, len(layout.columns)), np.float32),
            columns=[np.zeros(rows) for _ in layout.columns],
            codes=[np.zeros(rows, np.int32) for _ in layout.strings],
            lists=[NO_LISTS for _ in layout.lists],
            points=[np.zeros((rows, 2)) for _ in layout.points],
        )

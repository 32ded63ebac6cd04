"""Lists and places of candidates: everybody's own, however rows come, change and move."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from services.serving.core.candidates import FieldSpec, Partition, ProfileRows
from tests.support.candidates import LAYOUT, rows

WITH_LISTS = dataclasses.replace(
    LAYOUT,
    fields=(
        *LAYOUT.fields,
        FieldSpec("tags", "hard", "list", ()),
        FieldSpec("place", "hard", "geo", ()),
    ),
)
People = dict[int, list[str]]


def batch(people: People) -> ProfileRows:
    """People with these tags, each at the latitude of their number."""
    made = rows(list(people))
    values = [tag for tags in people.values() for tag in tags]
    counts = np.array([len(tags) for tags in people.values()], np.int32)
    points = np.array([[number, 0.0] for number in people], np.float64)
    return dataclasses.replace(made, lists={"tags": (values, counts)}, points={"place": points})


def tags_of(made: Partition) -> dict[int, list[str]]:
    """Everybody's tags, by number."""
    view, (entries,) = made.view, made.view.lists
    names = {code: tag for tag, code in made.list_codes[0].items()}
    found: People = {int(number): [] for number in view.numbers[np.flatnonzero(view.alive)]}
    for row, code in zip(entries.owners.tolist(), entries.codes.tolist(), strict=True):
        if view.alive[row]:
            found[int(view.numbers[row])].append(names[code])
    return found


def test_lists_and_places_are_no_columns() -> None:
    assert WITH_LISTS.columns == LAYOUT.columns
    assert [spec.name for spec in WITH_LISTS.lists] == ["tags"]
    assert [spec.name for spec in WITH_LISTS.points] == ["place"]


tags = st.lists(st.sampled_from(["calm", "tall", "kind"]), max_size=3)
changes = st.lists(
    st.dictionaries(st.integers(0, 40), tags, min_size=1, max_size=41), min_size=1, max_size=20
)


@given(changes)
def test_after_any_batches_everybody_has_their_latest_tags_and_place(
    history: list[People],
) -> None:
    made = Partition(WITH_LISTS)
    known: People = {}
    for change in history:
        made.apply_profiles(batch(change))
        known |= change
    assert tags_of(made) == known
    view = made.view
    for number in known:
        assert view.points[0][view.row_of[number]].tolist() == [number, 0.0]


def test_entries_of_the_dead_go_when_rows_move() -> None:
    made = Partition(WITH_LISTS)
    for _ in range(3_000):
        made.apply_profiles(batch({0: ["calm", "tall"], 1: ["kind"]}))
    assert tags_of(made) == {0: ["calm", "tall"], 1: ["kind"]}
    assert made.view.generation > 0
    assert len(made.view.lists[0].owners) <= 3 * len(made.view.numbers)


def test_an_old_view_keeps_its_lists() -> None:
    made = Partition(WITH_LISTS)
    made.apply_profiles(batch({0: ["calm"]}))
    (before,) = made.view.lists
    made.apply_profiles(batch({0: ["tall"], 1: ["kind"]}))
    assert before.owners.tolist() == [0]
    assert before.codes.tolist() == [0]

"""Candidates in memory: views are whole, changes replace people, room is made and taken back."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.serving.core.candidates import Partition, View
from tests.support.candidates import LAYOUT, partition, rows


def people(view: View) -> dict[int, float]:
    """Age by user's number, of those alive."""
    alive = np.flatnonzero(view.alive)
    return dict(zip(view.numbers[alive].tolist(), view.columns[0][alive].tolist(), strict=True))


def test_people_come_in() -> None:
    made = partition(rows([0, 1], age=[30, 40], cities=["NY", "LA"]))
    assert people(made.view) == {0: 30, 1: 40}
    assert made.user_ids == ["u0", "u1"]
    assert made.number_of == {"u0": 0, "u1": 1}


def test_a_changed_person_stands_once_with_the_new_values() -> None:
    made = partition(rows([0, 1], age=[30, 40]), rows([0], age=[31]))
    assert people(made.view) == {0: 31, 1: 40}
    assert made.view.alive_count == 2


def test_an_old_view_does_not_see_what_came_after_it() -> None:
    made = partition(rows([0, 1], age=[30, 40]))
    before = made.view
    made.apply_profiles(rows([0, 2], age=[31, 50]))
    assert people(before) == {0: 30, 1: 40}
    assert before.row_of.tolist() == [0, 1]
    assert people(made.view) == {0: 31, 1: 40, 2: 50}


def test_an_old_view_stays_whole_when_the_arrays_grow_and_rows_move() -> None:
    made = partition(rows([0], age=[30]))
    before = made.view
    for age in range(31, 2_000):
        made.apply_profiles(rows([0], age=[age]))
    assert people(before) == {0: 30}
    assert people(made.view) == {0: 1_999}


def test_the_dead_do_not_pile_up() -> None:
    made = partition(rows([0], age=[30]))
    generation = made.view.generation
    for age in range(5_000):
        made.apply_profiles(rows([0], age=[age]))
    assert len(made.view.numbers) <= 1_024
    assert made.view.generation > generation


def test_growing_without_dead_keeps_every_row_where_it_was() -> None:
    made = partition(rows(list(range(200)), age=[1.0] * 200))
    made.apply_profiles(rows(list(range(200, 2_000)), age=[2.0] * 1_800))
    assert made.view.generation == 0
    assert made.view.numbers[:2_000].tolist() == list(range(2_000))


def test_tallies_belong_to_numbers() -> None:
    made = partition(rows([0, 1], age=[30, 40]))
    made.apply_tallies(np.array([1], np.int32), np.array([[4, 3, 2, 1]], np.int32))
    made.apply_profiles(rows([1], age=[41]))
    assert made.counts[1].tolist() == [4, 3, 2, 1]
    assert made.counts[0].tolist() == [0, 0, 0, 0]


def test_strings_become_codes_and_empty_ones_none() -> None:
    made = partition(rows([0, 1, 2], cities=["NY", "", "NY"]))
    assert made.view.codes[0][:3].tolist() == [0, -1, 0]
    assert made.string_codes[0] == {"NY": 0}


batches = st.lists(
    st.dictionaries(st.integers(0, 30), st.integers(18, 99), min_size=1, max_size=12), max_size=30
)


@given(batches)
def test_after_any_batches_the_view_holds_the_latest_of_everyone(
    changes: list[dict[int, int]],
) -> None:
    made = Partition(LAYOUT)
    known: dict[int, float] = {}
    for change in changes:
        # Numbers are dense: nobody comes before those with smaller numbers.
        dense = {number: change.get(number, 1) for number in range(max(change) + 1)}
        made.apply_profiles(rows(list(dense), age=[float(age) for age in dense.values()]))
        known |= dense
    assert people(made.view) == known
    for number in known:
        assert made.view.numbers[made.view.row_of[number]] == number
        assert made.view.alive[made.view.row_of[number]]


@pytest.mark.parametrize("count", [1, 255, 256, 257])
def test_batches_of_any_size_fit(count: int) -> None:
    made = partition(rows(list(range(count)), age=[7.0] * count))
    assert made.view.alive_count == count


def test_whoever_is_removed_is_gone_and_the_others_stay() -> None:
    made = partition(rows([0, 1, 2], age=[30, 40, 50]))
    made.apply_tallies(np.array([1], np.int32), np.array([[4, 3, 2, 1]], np.int32))
    before = made.view
    made.apply_removals(np.array([1, 7], np.int32))  # 7 was never there
    assert people(made.view) == {0: 30, 2: 50}
    assert made.view.alive_count == 2
    assert made.view.row_of.tolist() == [0, -1, 2]
    assert made.number_of == {"u0": 0, "u2": 2}
    assert made.counts[1].tolist() == [0, 0, 0, 0]
    assert people(before) == {0: 30, 1: 40, 2: 50}
    made.apply_removals(np.array([1], np.int32))
    assert people(made.view) == {0: 30, 2: 50}


def test_someone_under_a_removed_id_is_another_person() -> None:
    made = partition(rows([0], age=[30]))
    again = dataclasses.replace(rows([1], age=[31]), user_ids=["u0"])
    made.apply_profiles(again)
    made.apply_removals(np.array([0], np.int32))
    assert people(made.view) == {1: 31}
    assert made.number_of == {"u0": 1}


def test_numbers_of_those_who_went_before_may_be_missing() -> None:
    made = partition(rows([3], age=[30]))
    made.apply_removals(np.array([1], np.int32))
    assert people(made.view) == {3: 30}
    for age in range(31, 900):
        made.apply_profiles(rows([3], age=[age]))
    assert people(made.view) == {3: 899}

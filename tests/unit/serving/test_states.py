"""States remembered between matches: the same as computed anew, and only computed when needed."""

import numpy as np

from services.serving.core.candidates import Floats, Partition, Rows, View
from services.serving.core.states import States
from tests.support.candidates import partition, rows


class Described:
    """A head that notes which rows it was asked about."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def __call__(self, view: View, wanted: Rows, counts: Floats) -> Floats:
        self.asked.append(wanted.tolist())
        return np.stack([view.features[wanted, 0], counts[:, 0]], axis=1)


def tally(made: Partition, number: int, given: int) -> None:
    counts = np.array([[given, 0, 0, 0]], np.int32)
    made.apply_tallies(np.array([number], np.int32), counts)


def test_a_row_is_described_once() -> None:
    made, states, describe = partition(rows([0, 1, 2], age=[7, 8, 9])), States(), Described()
    first = states.of(made, made.view, np.array([0, 2]), describe)
    again = states.of(made, made.view, np.array([2, 1, 0]), describe)
    assert describe.asked == [[0, 2], [1]]
    assert first.tolist() == [[7, 0], [9, 0]]
    assert again.tolist() == [[9, 0], [8, 0], [7, 0]]


def test_new_outcomes_describe_their_person_anew() -> None:
    made, states, describe = partition(rows([0, 1], age=[7, 8])), States(), Described()
    everyone = np.array([0, 1])
    states.of(made, made.view, everyone, describe)
    tally(made, 1, 5)
    assert states.of(made, made.view, everyone, describe).tolist() == [[7, 0], [8, 5]]
    assert describe.asked == [[0, 1], [1]]


def test_a_changed_person_has_another_row() -> None:
    made, states, describe = partition(rows([0, 1], age=[7, 8])), States(), Described()
    states.of(made, made.view, np.array([0, 1]), describe)
    made.apply_profiles(rows([0], age=[70]))
    row = made.view.row_of[[0]].astype(np.intp)
    assert states.of(made, made.view, row, describe).tolist() == [[70, 0]]


def test_rows_that_moved_are_forgotten_and_a_match_that_began_before_is_still_right() -> None:
    made, states, describe = partition(rows([0, 1], age=[7, 8])), States(), Described()
    before = made.view
    while made.view.generation == before.generation:
        made.apply_profiles(rows([0], age=[70]))
    row = made.view.row_of[[1]].astype(np.intp)
    assert states.of(made, made.view, row, describe).tolist() == [[8, 0]]
    assert states.of(made, before, np.array([0, 1]), describe).tolist() == [[7, 0], [8, 0]]
    assert states.of(made, made.view, row, describe).tolist() == [[8, 0]]
    assert describe.asked == [row.tolist(), [0, 1]]


def test_a_domain_that_grows_stays_right() -> None:
    made, states, describe = partition(rows([0], age=[7])), States(), Described()
    for number in range(1, 1_000):
        made.apply_profiles(rows([number], age=[number]))
        found = states.of(made, made.view, np.array([0, number]), describe)
        assert found.tolist() == [[7, 0], [number, 0]]

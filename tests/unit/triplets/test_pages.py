"""Pages that may be learned from: without the erased, without what was taken back."""

import numpy as np

from services.triplets.core.outcome import RETRACTED_LEVEL
from services.triplets.core.pages import NO_PAGES, Pages, settle_pages

PAGES = Pages(
    seekers=np.array([0, 1, 2], np.int32),
    times=np.array([10, 20, 30], np.int64),
    explored=np.array([True, False, True]),
    slot_pages=np.array([0, 0, 1, 1, 2], np.int32),
    candidates=np.array([1, 2, 3, 0, 3], np.int32),
    ranks=np.array([1, 2, 1, 2, 1], np.int32),
    propensities=np.array([0.25, 0.75, 0.5, 0.5, 1.0]),
    levels=np.array([2, -1, 0, 3, 3], np.int8),
)


def settle(there: list[bool], pairs: list[tuple[int, int]], pages: Pages = PAGES) -> Pages:
    found = np.array(pairs, np.int32).reshape(-1, 2)
    return settle_pages(pages, np.array(there), found[:, 0], found[:, 1])


def same(found: Pages, expected: Pages) -> bool:
    return all(
        (getattr(found, name) == getattr(expected, name)).all()
        and getattr(found, name).dtype == getattr(expected, name).dtype
        for name in Pages.__slots__
    )


def test_pages_of_people_who_are_there_stay_as_they_are() -> None:
    pairs = [(0, 1), (1, 0), (1, 3), (2, 3)]
    assert same(settle([True] * 4, pairs), PAGES)
    assert same(settle([True] * 4, pairs, NO_PAGES), NO_PAGES)


def test_a_page_goes_with_whoever_is_erased_from_it() -> None:
    found = settle([True, True, False, True], [(0, 1), (1, 0), (1, 3), (2, 3)])
    assert found.seekers.tolist() == [1]
    assert found.slot_pages.tolist() == [0, 0]
    assert found.candidates.tolist() == [3, 0]
    assert found.levels.tolist() == [0, 3]


def test_a_page_of_somebody_who_came_in_since_waits() -> None:
    found = settle([True, True, True], [(0, 1)])
    assert found.seekers.tolist() == [0]
    assert found.levels.tolist() == [2, -1]


def test_what_was_taken_back_is_no_outcome() -> None:
    levels = np.array([2, -1, RETRACTED_LEVEL, 3, 3], np.int8)
    pages = Pages(**{**{n: getattr(PAGES, n) for n in Pages.__slots__}, "levels": levels})
    found = settle([True] * 4, [(0, 1), (1, 3), (2, 3)], pages)  # the pair (1, 0) has no outcome
    assert found.levels.tolist() == [2, -1, -1, -1, 3]

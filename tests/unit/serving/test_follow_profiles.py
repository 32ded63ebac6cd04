"""Candidates in step with the stream: whatever is cut off, repeated or shuffled, all end alike."""

import dataclasses
import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chassis.clock import ManualClock
from services.serving.core.candidates import FieldSpec, Layout, ProfileRows
from services.serving.core.follow_profiles import ProfileFollower
from services.serving.core.swap_heads import DomainKey, Registry
from tests.support.candidates import LAYOUT, rows

KEY = ("acme", "dating")
GROWN = Layout(
    version="dating.v2",
    fields=(*LAYOUT.fields, FieldSpec("pets", "hard", "boolean", ())),
    encoder="test",
    dim=8,
)
Tallies = tuple[np.ndarray, np.ndarray]


def tallies(**counts: list[int]) -> Tallies:
    """What outcomes say of u1, u2 and so on."""
    numbers = np.array([int(user_id[1:]) for user_id in counts], np.int32)
    return numbers, np.array(list(counts.values()), np.int32)


def grown(numbers: list[int], ages: list[float]) -> ProfileRows:
    """People under the grown schema, all with pets."""
    batch = rows(numbers, age=ages)
    pets = np.ones((len(numbers), 1))
    return dataclasses.replace(batch, columns=np.hstack([batch.columns, pets]))


class Following:
    """A follower, and short ways to tell it things."""

    def __init__(self) -> None:
        clock = ManualClock(datetime.datetime(2026, 5, 17, tzinfo=datetime.UTC))
        self.registry = Registry(clock)
        self.follower = ProfileFollower(self.registry)

    def tell(
        self,
        profiles: ProfileRows | None = None,
        tallies: Tallies | None = None,
        *,
        key: DomainKey = KEY,
        layout: Layout = LAYOUT,
    ) -> None:
        """One batch."""
        self.follower.apply(key, layout, profiles=profiles, tallies=tallies, revision=-1)

    def complete(self, revision: int, key: DomainKey = KEY, layout: Layout = LAYOUT) -> None:
        """The batch without content."""
        self.follower.apply(key, layout, profiles=None, tallies=None, revision=revision)

    def ages(self, key: DomainKey = KEY) -> dict[str, float]:
        """Everyone in a domain that is served, and how old they are."""
        partition = self.registry.domains[key].partition
        view = partition.view
        alive = np.flatnonzero(view.alive)
        ids = [partition.user_ids[number] for number in view.numbers[alive]]
        assert len(ids) == len(set(ids)) == view.alive_count
        return dict(zip(ids, view.columns[0][alive].tolist(), strict=True))

    def counts(self, number: int) -> list[float]:
        """What outcomes say of a person."""
        found: list[float] = self.registry.domains[KEY].partition.counts[number].tolist()
        return found


@pytest.fixture
def following() -> Following:
    """A follower of a complete domain with u0 and u1."""
    made = Following()
    made.tell(rows([0, 1], age=[30, 31]))
    made.tell(tallies=tallies(u1=[4, 3, 2, 1]))
    made.complete(7)
    return made


def test_a_domain_is_served_once_it_is_complete() -> None:
    following = Following()
    following.tell(rows([0], age=[30]))
    following.tell(tallies=tallies(u0=[1, 1, 0, 0]))
    assert following.registry.domains == {}
    assert following.follower.cursors() == {}
    following.complete(7)
    assert following.ages() == {"u0": 30}
    assert following.follower.cursors() == {KEY: 7}


def test_a_domain_without_people_is_served_all_the_same() -> None:
    following = Following()
    following.complete(0)
    assert following.ages() == {}
    assert following.follower.cursors() == {KEY: 0}


def test_what_is_told_twice_stands_once(following: Following) -> None:
    for _ in range(2):
        following.tell(rows([1, 2], age=[41, 32]))
        following.tell(tallies=tallies(u2=[5, 0, 0, 0]))
        following.complete(8)
    assert following.ages() == {"u0": 30, "u1": 41, "u2": 32}
    assert (following.counts(1), following.counts(2)) == ([4, 3, 2, 1], [5, 0, 0, 0])
    assert following.follower.cursors() == {KEY: 8}


def test_people_may_be_told_in_any_order() -> None:
    following = Following()
    for number in (3, 0, 2, 1):
        following.tell(rows([number], age=[30.0 + number]))
    following.complete(4)
    assert following.ages() == {"u0": 30, "u1": 31, "u2": 32, "u3": 33}


def test_changes_of_a_served_domain_are_seen_at_once(following: Following) -> None:
    following.tell(rows([1], age=[41]))
    following.tell(tallies=tallies(u0=[9, 0, 0, 0]))
    assert following.ages() == {"u0": 30, "u1": 41}
    assert following.counts(0) == [9, 0, 0, 0]


def test_changes_leave_what_else_is_served_of_the_domain(following: Following) -> None:
    served = following.registry.domains[KEY]
    following.tell(rows([1], age=[41]))
    following.complete(8)
    assert following.registry.domains[KEY] is served  # with its head, index and calibration


def test_changes_without_the_word_that_they_are_complete_are_asked_for_again(
    following: Following,
) -> None:
    following.tell(rows([1], age=[41]))
    following.follower.restart()
    assert following.follower.cursors() == {KEY: 7}
    following.tell(rows([1, 2], age=[41, 32]))
    following.complete(9)
    assert following.ages() == {"u0": 30, "u1": 41, "u2": 32}


def test_a_domain_whose_first_telling_was_cut_off_is_told_from_the_start() -> None:
    following = Following()
    following.tell(rows([0, 1], age=[30, 31]))
    following.follower.restart()
    assert following.follower.cursors() == {}
    following.tell(rows([0], age=[40]))
    following.complete(3)
    assert following.ages() == {"u0": 40}


def test_domains_are_filled_beside_each_other() -> None:
    following, hiring = Following(), ("acme", "hiring")
    following.tell(rows([0], age=[30]))
    following.tell(rows([0], age=[50]), key=hiring)
    following.tell(rows([1], age=[31]))
    following.complete(2, key=hiring)
    assert list(following.registry.domains) == [hiring]
    following.complete(5)
    assert following.ages() == {"u0": 30, "u1": 31}
    assert following.ages(hiring) == {"u0": 50}
    assert following.follower.cursors() == {hiring: 2, KEY: 5}


def test_a_grown_schema_is_served_once_everyone_is_told_anew(following: Following) -> None:
    following.tell(grown([0], [30]), layout=GROWN)
    assert following.ages() == {"u0": 30, "u1": 31}
    assert following.registry.domains[KEY].partition.layout == LAYOUT
    following.tell(grown([1], [31]), tallies(u1=[4, 3, 2, 1]), layout=GROWN)
    following.complete(9, layout=GROWN)
    assert following.registry.domains[KEY].partition.layout == GROWN
    assert following.ages() == {"u0": 30, "u1": 31}
    assert following.counts(1) == [4, 3, 2, 1]


def test_a_grown_schema_that_was_cut_off_leaves_what_is_served(following: Following) -> None:
    following.tell(grown([0], [99]), layout=GROWN)
    following.follower.restart()
    assert following.follower.cursors() == {KEY: 7}
    assert following.ages() == {"u0": 30, "u1": 31}
    following.tell(grown([0, 1], [30, 31]), layout=GROWN)
    following.complete(9, layout=GROWN)
    assert following.ages() == {"u0": 30, "u1": 31}


def test_a_schema_that_grows_while_it_is_told_starts_anew(following: Following) -> None:
    later = dataclasses.replace(GROWN, version="dating.v3")
    following.tell(grown([0, 1], [98, 99]), layout=GROWN)
    following.tell(grown([0], [40]), layout=later)
    following.complete(10, layout=later)
    assert following.registry.domains[KEY].partition.layout == later
    assert following.ages() == {"u0": 40}


class Telling:
    """The triplet store's side: who was changed at which revision."""

    def __init__(self) -> None:
        self.people: dict[int, tuple[int, float]] = {}
        self.revision = 0

    def change(self, numbers: list[int], age: float) -> None:
        """People come in or change; a number is given out only after those before it."""
        self.revision += 1
        known = len(self.people)
        newcomers = range(known, known + sum(number >= known for number in numbers))
        for number in {*newcomers, *(number for number in numbers if number < known)}:
            self.people[number] = (self.revision, age)

    def batches(self, since: int) -> list[ProfileRows]:
        """Who has changed since, one by one in the order of their changes."""
        changed = sorted(
            (revision, number) for number, (revision, _) in self.people.items() if revision > since
        )
        return [rows([number], age=[self.people[number][1]]) for _, number in changed]


changes = st.tuples(st.lists(st.integers(0, 8), max_size=4), st.integers(0, 6))


@given(st.lists(changes, max_size=8))
def test_however_often_the_stream_breaks_everyone_is_there_in_the_end(
    history: list[tuple[list[int], int]],
) -> None:
    following, telling = Following(), Telling()
    for moment, (numbers, told_count) in enumerate([*history, ([], 1_000)]):
        telling.change(numbers, 20.0 + moment)
        following.follower.restart()
        batches = telling.batches(following.follower.cursors().get(KEY, -1))
        for batch in batches[:told_count]:
            following.tell(batch)
        if told_count > len(batches):
            following.complete(telling.revision)
    expected = {f"u{number}": age for number, (_, age) in telling.people.items()}
    assert following.ages() == expected
    assert following.follower.cursors() == {KEY: telling.revision}

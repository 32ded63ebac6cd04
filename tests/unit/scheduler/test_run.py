"""Runs: which moves are legal, and what ids look like."""

import datetime

import pytest

from services.scheduler.core.run import ACTIVE, LEASED, MOVES, State, head_of, run_id_of


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(State)


@pytest.mark.parametrize("state", sorted(set(State) - ACTIVE))
def test_an_ended_run_does_not_move(state: State) -> None:
    assert MOVES[state] == frozenset()


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_an_active_run_can_be_cancelled(state: State) -> None:
    assert State.CANCELLED in MOVES[state]


@pytest.mark.parametrize("state", sorted(LEASED))
def test_a_leased_run_can_go_back_to_the_queue_or_end(state: State) -> None:
    assert {State.QUEUED, State.FAILED, State.SUCCEEDED} <= MOVES[state]


def test_phases_never_go_back() -> None:
    phases = [State.STARTING, State.RUNNING, State.EVALUATING, State.EXPORTING]
    for index, later in enumerate(phases):
        for earlier in phases[: index + 1]:
            assert earlier not in MOVES[later]


def test_a_queued_run_is_only_started_or_cancelled() -> None:
    assert MOVES[State.QUEUED] == {State.STARTING, State.CANCELLED}


def test_run_ids_are_the_day_and_a_counter() -> None:
    assert run_id_of(datetime.date(2026, 5, 17), 1) == "tr_2026_05_17_001"
    assert run_id_of(datetime.date(2026, 5, 17), 1234) == "tr_2026_05_17_1234"


def test_a_head_is_named_after_its_run() -> None:
    assert head_of("acme", "dating", "tr_2026_05_17_001") == "u_acme.dating.2026-05-17.001"

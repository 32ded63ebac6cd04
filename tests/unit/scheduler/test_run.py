"""Runs: which moves are legal, and what ids look like."""

import dataclasses
import datetime

import pytest

from services.scheduler.core.run import (
    ACTIVE,
    LEASED,
    MOVES,
    Job,
    Run,
    State,
    Trigger,
    attempt_after,
    head_of,
    run_id_of,
)

JOB = Job(
    tenant="acme",
    domain="dating",
    trigger=Trigger.MANUAL,
    forced=True,
    revision=1,
    triplets_count=1,
    seed=0,
)


def test_every_state_has_its_moves() -> None:
    assert set(MOVES) == set(State)


@pytest.mark.parametrize("state", sorted(set(State) - ACTIVE))
def test_an_ended_run_does_not_move(state: State) -> None:
    assert MOVES[state] == frozenset()


@pytest.mark.parametrize("state", sorted(ACTIVE))
def test_an_active_run_can_be_cancelled(state: State) -> None:
    assert State.CANCELLED in MOVES[state]


@pytest.mark.parametrize("state", sorted(LEASED))
def test_a_leased_run_can_go_back_or_end(state: State) -> None:
    back = State.PAUSED if state is State.PAUSING else State.QUEUED
    end = State.STOPPED if state is State.STOPPING else State.SUCCEEDED
    assert {back, State.FAILED, end} <= MOVES[state]


def test_only_a_run_that_trains_can_be_told_to_pause_or_to_stop() -> None:
    for order in (State.PAUSING, State.STOPPING):
        assert {s for s in State if order in MOVES[s]} == {State.STARTING, State.RUNNING}


def test_a_paused_run_only_goes_on_or_is_cancelled() -> None:
    assert MOVES[State.PAUSED] == {State.QUEUED, State.CANCELLED}


def test_a_lost_lease_begins_an_attempt_and_a_pause_does_not() -> None:
    now = datetime.datetime(2026, 5, 17, tzinfo=datetime.UTC)
    for state in State:
        run = Run(job=JOB, run_id="", state=state, create_time=now, attempt=1)
        expected = 2 if state in LEASED else 1
        assert attempt_after(run, State.QUEUED) == expected
        assert attempt_after(run, State.PAUSED) == 1


def test_phases_never_go_back() -> None:
    phases = [State.STARTING, State.RUNNING, State.EVALUATING, State.EXPORTING]
    for index, later in enumerate(phases):
        for earlier in phases[: index + 1]:
            assert earlier not in MOVES[later]


def test_a_queued_run_is_only_started_paused_or_cancelled() -> None:
    assert MOVES[State.QUEUED] == {State.STARTING, State.PAUSED, State.CANCELLED}


def test_run_ids_are_the_day_and_a_counter() -> None:
    assert run_id_of(datetime.date(2026, 5, 17), 1) == "tr_2026_05_17_001"
    assert run_id_of(datetime.date(2026, 5, 17), 1234) == "tr_2026_05_17_1234"


def test_a_head_is_named_after_its_run() -> None:
    assert head_of(JOB, "tr_2026_05_17_001") == "u_acme.dating.2026-05-17.001"
    shared = dataclasses.replace(JOB, tenant="_shared")
    assert head_of(shared, "tr_2026_05_17_001") == "dating.2026-05-17.001"
    assert (JOB.tier, shared.tier) == ("tenant", "domain")

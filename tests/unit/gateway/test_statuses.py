"""What the dialects call a run's states: total, and only words that they have."""

import pytest

from services.gateway.core.run import Run, RunState
from services.gateway.facades.archetype.statuses import KNOWN, STATUSES, TUNING_STATUSES
from services.gateway.facades.openai.statuses import OPENAI, TRUEFOUNDRY, Words, status_of
from services.scheduler.core.run import ACTIVE, State

PUBLIC = {"validating_files", "queued", "running", "succeeded", "failed", "cancelled"}


def test_the_gateway_knows_every_state_of_the_scheduler() -> None:
    assert {state.value for state in RunState} == {state.value for state in State}


@pytest.mark.parametrize(
    ("words", "known"),
    [(OPENAI, PUBLIC | {"paused"}), (TRUEFOUNDRY, PUBLIC - {"validating_files"})],
    ids=["openai", "truefoundry"],
)
def test_every_state_has_words_that_the_dialect_knows(words: Words, known: set[str]) -> None:
    assert set(words) == set(RunState)
    assert {word for pair in words.values() for word in pair} == known


@pytest.mark.parametrize("words", [OPENAI, TRUEFOUNDRY])
def test_a_run_has_ended_in_a_dialect_when_it_has_ended(words: Words) -> None:
    for state in RunState:
        for files_read in (False, True):
            status = status_of(words, Run(run_id="r", state=state, files_read=files_read))
            assert (status in {"succeeded", "failed", "cancelled"}) == (State(state) not in ACTIVE)


@pytest.mark.parametrize(
    ("state", "before", "after"),
    [
        (RunState.QUEUED, "validating_files", "queued"),
        (RunState.STARTING, "validating_files", "queued"),
        (RunState.RUNNING, "validating_files", "running"),
        (RunState.PAUSED, "paused", "paused"),
        (RunState.FAILED, "failed", "failed"),
    ],
)
def test_files_are_being_validated_until_the_run_has_read_them(
    state: RunState, before: str, after: str
) -> None:
    runs = [Run(run_id="r", state=state, files_read=read) for read in (False, True)]
    assert [status_of(OPENAI, run) for run in runs] == [before, after]


def test_every_state_has_a_word_of_archetypes() -> None:
    assert set(STATUSES) == set(RunState)
    assert set(STATUSES.values()) == {
        "REGISTERED",
        "STARTING",
        "RUNNING",
        "FINALIZING",
        "STOPPING",
        "COMPLETED",
        "STOPPED",
        "CANCELLED",
        "FAILED",
    }
    assert {*STATUSES.values(), "UNKNOWN"} == KNOWN
    ends = {"COMPLETED", "STOPPED", "CANCELLED", "FAILED"}
    for state in RunState:
        assert (STATUSES[state] in ends) == (State(state) not in ACTIVE)


def test_the_newer_words_are_openais_in_capitals() -> None:
    assert set(TUNING_STATUSES) == set(RunState)
    for state, word in TUNING_STATUSES.items():
        assert word.lower() == OPENAI[state][True]

"""Histories of runs as earlier releases have written them: whatever comes later can replay them.

histories.txt holds a line a run, state and attempt of each of its moves. It only grows: what a
release has written stays in its users' databases.
"""

import itertools
from pathlib import Path

import pytest

from services.scheduler.core.run import ACTIVE, LEASED, MOVES, State

HISTORIES = (Path(__file__).parent / "histories.txt").read_text().splitlines()


def moves_of(history: str) -> list[tuple[State, int]]:
    """State and attempt of each move."""
    moves = [move.split(":") for move in history.split()]
    return [(State(state), int(attempt)) for state, attempt in moves]


@pytest.mark.parametrize("history", HISTORIES)
def test_every_recorded_move_is_still_legal(history: str) -> None:
    moves = moves_of(history)
    assert moves[0] == (State.QUEUED, 0)
    for (before, attempt), (after, later) in itertools.pairwise(moves):
        assert after in MOVES[before], f"{before} → {after}"
        if after is State.STARTING:
            assert later == max(attempt, 1)
        else:
            assert later == attempt + (before in LEASED and after is State.QUEUED)


def test_the_recorded_histories_end_in_every_way_and_show_every_detour() -> None:
    ends = {moves_of(history)[-1][0] for history in HISTORIES}
    assert set(State) - ACTIVE <= ends
    shown = {state for history in HISTORIES for state, _ in moves_of(history)}
    assert {State.PAUSED, State.STOPPING, State.QUEUED} <= shown

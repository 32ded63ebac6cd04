"""A supervised process: it comes back with growing pauses, and it goes when it is told to."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from services.mesh import child as supervising
from services.mesh.child import RESTARTS_BEFORE_READY_MAX, Child, ChildSpec, MeshStartError
from tests.support.mesh import until

SECONDS_MAX = 10.0
FOREVER = "exec sleep 60"
DEAF = "trap '' TERM; echo ready; while :; do sleep 0.01; done"


class Watched:
    """A child that runs a shell script, and all that was told of it."""

    def __init__(self, folder: Path) -> None:
        self.log = folder / "child.log"
        self.ready = True
        self.told: list[tuple[float, int]] = []
        """When it changed, and its process id from then on."""
        self.child: Child
        self._changed = asyncio.Event()

    def make(self, script: str, stop_signal: signal.Signals = signal.SIGTERM) -> Child:
        """Makes the child."""
        spec = ChildSpec(
            name="test",
            command=["/bin/sh", "-c", script],
            is_ready=self._is_ready,
            log=self.log,
            environment={"TRINE_TOLD": "this"},
            stop_signal=stop_signal,
        )
        self.child = Child(spec, self._tell)
        return self.child

    async def _is_ready(self) -> bool:
        return self.ready

    def _tell(self) -> None:
        self.told.append((time.monotonic(), self.child.pid))
        self._changed.set()

    async def until(self, holds: Callable[[], bool]) -> None:
        """Waits until something holds after a change."""
        while not holds():
            self._changed.clear()
            await asyncio.wait_for(self._changed.wait(), SECONDS_MAX)

    async def until_started(self, times: int) -> None:
        """Waits until it has been started so often."""
        await self.until(lambda: len(self.starts()) >= times)

    async def until_logged(self, line: str) -> None:
        """Waits until it has written a line: nothing else tells how far a script is."""
        await asyncio.to_thread(until, lambda: line in self.log.read_text() or None)

    def kill(self) -> int:
        """Kills its process and returns the id."""
        pid = self.child.pid
        assert pid, "0 would be everyone"
        os.kill(pid, signal.SIGKILL)
        return pid

    def starts(self) -> list[int]:
        """The process ids that it has had."""
        return [pid for _, pid in self.told if pid]

    def pauses(self) -> list[float]:
        """Seconds between each end and the start that followed it."""
        ends = [moment for moment, pid in self.told if not pid]
        starts = [moment for moment, pid in self.told if pid][1:]
        return [start - end for end, start in zip(ends, starts, strict=False)]


@contextlib.asynccontextmanager
async def supervised(child: Child) -> AsyncIterator[None]:
    """Starts a child and watches over it; ends it at last."""
    await child.start()
    watching = asyncio.create_task(child.supervise())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        process = child._process
        assert process is not None
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # a child that is not stopped as it should be shall hang no test
        await asyncio.wait_for(process.wait(), SECONDS_MAX)


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


async def test_a_child_that_is_killed_comes_back(watched: Watched) -> None:
    child = watched.make(FOREVER)
    async with supervised(child):
        first = watched.kill()
        await watched.until_started(2)
        assert child.pid not in (0, first)
        assert child.restarts_count == 1
        assert [bool(pid) for _, pid in watched.told] == [True, False, True]


async def test_pauses_grow_to_the_longest(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "BACKOFF_SECONDS", (0.0, 0.04, 0.08))
    async with supervised(watched.make("exit 1")):
        await watched.until_started(5)
    for pause, least in zip(watched.pauses(), (0.0, 0.04, 0.08, 0.08), strict=True):
        assert pause >= least
    assert watched.child.restarts_count == 4


async def test_a_child_that_ran_steadily_begins_with_the_shortest_pause(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "BACKOFF_SECONDS", (0.0, 2 * SECONDS_MAX))
    monkeypatch.setattr(supervising, "STEADY_SECONDS", 0.0)
    async with supervised(watched.make("exit 1")):
        await watched.until_started(4)


async def test_a_child_that_cannot_be_started_for_a_while_is_tried_again(
    watched: Watched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "BACKOFF_SECONDS", (0.01,))
    program, away = tmp_path / "program", tmp_path / "away"
    program.write_text(f"#!/bin/sh\necho ready\n{FOREVER}\n")
    program.chmod(0o755)
    child = watched.make("")
    child.spec.command[:] = [str(program)]
    async with supervised(child):
        await watched.until_logged("ready")
        program.rename(away)
        watched.kill()
        await watched.until(lambda: child.restarts_count >= 3)
        away.rename(program)
        await watched.until_started(2)
        assert child.pid


async def test_a_child_ends_when_it_is_asked_to(watched: Watched) -> None:
    child = watched.make(FOREVER)
    async with supervised(child):
        process = child._process
        assert process is not None
        await child.stop()
        assert process.returncode == -signal.SIGTERM
        assert child.pid == 0
    await child.stop()  # it has ended: nothing is left to do


async def test_a_child_is_asked_by_its_own_signal(watched: Watched) -> None:
    # Not SIGINT: what a shell starts in the background ignores that one, and so do its children.
    script = "trap 'echo interrupted; exit 7' USR1; echo ready; while :; do sleep 0.01; done"
    child = watched.make(script, stop_signal=signal.SIGUSR1)
    async with supervised(child):
        process = child._process
        assert process is not None
        await watched.until_logged("ready")
        await child.stop()
        assert process.returncode == 7
    assert watched.log.read_text() == "ready\ninterrupted\n"


async def test_a_child_that_does_not_listen_is_ended_by_force(watched: Watched) -> None:
    child = watched.make(DEAF)
    async with supervised(child):
        process = child._process
        assert process is not None
        await watched.until_logged("ready")
        await child.stop(seconds_max=0.05)
        assert process.returncode == -signal.SIGKILL


async def test_a_child_that_is_stopped_stays_away(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "BACKOFF_SECONDS", (0.0,))
    child = watched.make(FOREVER)
    await child.start()
    watching = asyncio.create_task(child.supervise())
    await child.stop()
    await asyncio.wait_for(watching, SECONDS_MAX)
    assert len(watched.starts()) == 1
    assert child.restarts_count == 0


async def test_a_child_that_is_stopped_in_a_pause_stays_away(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "BACKOFF_SECONDS", (0.05,))
    child = watched.make("exit 1")
    await child.start()
    watching = asyncio.create_task(child.supervise())
    await watched.until(lambda: len(watched.told) == 2)  # it has started, and ended
    await child.stop()
    await asyncio.wait_for(watching, SECONDS_MAX)
    assert len(watched.starts()) == 1


async def test_a_child_is_waited_for_until_it_answers(watched: Watched) -> None:
    watched.ready = False
    async with supervised(watched.make(FOREVER)):
        waiting = asyncio.create_task(watched.child.until_ready(SECONDS_MAX))
        await asyncio.sleep(0)
        assert not waiting.done()
        watched.ready = True
        await asyncio.wait_for(waiting, SECONDS_MAX)


async def test_a_child_that_never_answers_is_told_of_with_its_log(watched: Watched) -> None:
    watched.ready = False
    async with supervised(watched.make(FOREVER)):
        with pytest.raises(MeshStartError, match=f"test is not ready; see {watched.log}"):
            await watched.child.until_ready(0.0)


async def test_a_child_that_keeps_ending_is_not_waited_for(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "BACKOFF_SECONDS", (0.0,))
    watched.ready = False
    async with supervised(watched.make("exit 1")):
        with pytest.raises(MeshStartError, match=f"test keeps ending; see {watched.log}"):
            await watched.child.until_ready(SECONDS_MAX)
        assert watched.child.restarts_count >= RESTARTS_BEFORE_READY_MAX


async def test_a_log_begins_with_the_start_and_goes_on_over_restarts(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "BACKOFF_SECONDS", (0.0,))
    watched.log.write_text("of an earlier mesh\n")
    async with supervised(watched.make(f"echo out; echo err >&2; {FOREVER}")):
        await watched.until_logged("err")
        watched.kill()
        await watched.until_logged("out\nerr\nout\nerr\n")
    assert watched.log.read_text() == "out\nerr\nout\nerr\n"


async def test_a_child_is_told_its_settings_and_not_its_parents(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRINE_PORT_BASE", "8080")
    monkeypatch.setenv("PLAIN", "inherited")
    async with supervised(watched.make(f"env; echo done; {FOREVER}")):
        await watched.until_logged("done")
    lines = watched.log.read_text().splitlines()
    assert [line for line in lines if line.startswith("TRINE_")] == ["TRINE_TOLD=this"]
    assert "PLAIN=inherited" in lines


async def test_a_child_that_says_that_it_is_beyond_help_is_started_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervising, "LOOK_SECONDS", 0.02)
    monkeypatch.setattr(supervising, "BEYOND_HELP_SECONDS", 0.1)
    made, unasked = watched.make(FOREVER), [FileNotFoundError(), ConnectionResetError()]

    async def is_beyond_help() -> bool:
        if unasked:
            raise unasked.pop()
        return len(watched.starts()) == 1

    watched.child = child = Child(replace(made.spec, is_beyond_help=is_beyond_help), watched._tell)
    async with supervised(child):
        looking = asyncio.create_task(child.look_after())
        await watched.until_started(2)
        await asyncio.sleep(0.3)
        assert child.restarts_count == 1
        looking.cancel()

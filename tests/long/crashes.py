"""Every crash point ten times, at passings that the seed chooses, followed by every check.

In a run all points of all services are armed; callers of all kinds go on until somebody has died at
each, the mesh comes to rest, and what it holds is compared with what it has acknowledged.
"""

import random
import tempfile
from collections import Counter
from pathlib import Path

from tests.long.record import Record
from tests.support.crashes import Crashes, crash_points, mortal_mesh, verify
from tests.support.crowd import Crowd, OverError
from tests.support.mesh import Mesh
from tests.support.receiver import Receiver, receiving

RUNS = 10
PASSING_MAX = 3
RUN_SECONDS_MAX = 900

Plan = dict[str, dict[str, int]]


def measure_crashes(record: Record) -> bool:
    """Kills every service at every point again and again; holds if nothing is lost or stuck."""
    chosen = random.Random(record.seed)  # to be repeated, not to be secret
    deaths: Counter[str] = Counter()
    failures: list[str] = []
    for number in range(1, RUNS + 1):
        with (
            tempfile.TemporaryDirectory(prefix="trine-crashes-") as folder,
            receiving() as receiver,
            mortal_mesh(Path(folder)) as (mesh, crashes),
        ):
            crowd, deadly = Crowd(mesh, receiver.url), plan(chosen)
            failure = _live_through(mesh, crashes, crowd, receiver, deadly)
        print(f"run {number}: {failure or 'held'}", flush=True)
        if failure:
            failures.append(f"run {number}, {deadly}: {failure}")
        else:
            deaths.update(name for points in deadly.values() for name in points)
    record.table(
        ("service", "points", "deaths survived"),
        [
            (service, len(names), sum(deaths[name] for name in names))
            for service, names in crash_points().items()
        ],
    )
    fewest = min(deaths[name] for names in crash_points().values() for name in names)
    record.say(f"Deaths survived at the point with the fewest: {fewest}.")
    for failure in failures:
        record.say(failure)
    return not failures


def plan(chosen: random.Random) -> Plan:
    """All points, each at a passing of chance."""
    return {
        service: {name: chosen.randint(1, PASSING_MAX) for name in names}
        for service, names in crash_points().items()
    }


def _live_through(
    mesh: Mesh, crashes: Crashes, crowd: Crowd, receiver: Receiver, deadly: Plan
) -> str:
    """What went wrong in a run, if anything did."""
    crashes.plan(deadly)
    try:
        with crowd.at_work(RUN_SECONDS_MAX):
            crashes.wait(RUN_SECONDS_MAX)
        verify(mesh, crowd.told, receiver.heard)
    except (AssertionError, OverError) as error:
        return repr(error)
    return ""

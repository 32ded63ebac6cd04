"""Every crash point ten times, at passings that the seed chooses, each followed by every check.

A round arms some points in each service; callers of all kinds go on until somebody has died at
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
POINTS_AT_ONCE = 6
"""Of a service in a round."""
ROUND_SECONDS_MAX = 400

Round = dict[str, dict[str, int]]


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
            crowd = Crowd(mesh, receiver.url)
            for deadly in rounds(chosen):
                failure = _live_through(mesh, crashes, crowd, receiver, deadly)
                names = sorted(name for points in deadly.values() for name in points)
                print(f"run {number}: {', '.join(names)}: {failure or 'held'}", flush=True)
                deaths.update(names if not failure else ())
                if failure:
                    failures.append(f"run {number}, {deadly}: {failure}")
                    break  # of this mesh nothing more can be said
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


def rounds(chosen: random.Random) -> list[Round]:
    """All points, some of each service at a time, in an order and at passings of chance."""
    orders = {s: chosen.sample(names, len(names)) for s, names in crash_points().items()}
    return [
        {
            service: {
                name: chosen.randint(1, PASSING_MAX) for name in names[start:][:POINTS_AT_ONCE]
            }
            for service, names in orders.items()
            if start < len(names)
        }
        for start in range(0, max(map(len, orders.values())), POINTS_AT_ONCE)
    ]


def _live_through(
    mesh: Mesh, crashes: Crashes, crowd: Crowd, receiver: Receiver, deadly: Round
) -> str:
    """What went wrong in a round, if anything did."""
    crashes.plan(deadly)
    try:
        with crowd.at_work(ROUND_SECONDS_MAX):
            crashes.wait(ROUND_SECONDS_MAX)
        verify(mesh, crowd.told, receiver.heard)
    except (AssertionError, OverError) as error:
        return repr(error)
    return ""

"""Power cuts of PostgreSQL and NATS under load, with safe settings and with unsafe ones."""

import asyncio
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from tests.long.record import Record
from tests.support.power import nats_lost, postgres_lost, why_not

CUTS = 2
LOAD_SECONDS = 2.0
Cut = Callable[[Path, float], Coroutine[Any, Any, tuple[int, int]]]

SAFE: Mapping[str, Cut] = {
    "PostgreSQL as launched": postgres_lost,
    "NATS as launched": nats_lost,
}
UNSAFE: Mapping[str, Cut] = {
    "PostgreSQL, synchronous_commit=off": partial(
        postgres_lost, settings=("synchronous_commit=off",)
    ),
    "PostgreSQL, fsync=off": partial(postgres_lost, settings=("fsync=off",)),
    "NATS without sync_interval": partial(nats_lost, safe=False),
}


def measure_power(record: Record) -> bool:
    """Cuts the power; holds if no acknowledged row or event is lost, but is without safety."""
    if reason := why_not():
        record.say(f"Not measured: {reason}.")
        return False
    rows, held = [], True
    for name, cut in {**SAFE, **UNSAFE}.items():
        acknowledged = lost = 0
        for _ in range(CUTS):
            with tempfile.TemporaryDirectory(prefix="trine-power-") as folder:
                wrote, missed = asyncio.run(cut(Path(folder), LOAD_SECONDS))
            acknowledged, lost = acknowledged + wrote, lost + missed
        print(f"{name}: {acknowledged:,} acknowledged, {lost:,} lost", flush=True)
        rows.append((name, CUTS, f"{acknowledged:,}", f"{lost:,}"))
        held = held and acknowledged > 0 and bool(lost) == (name in UNSAFE)
    record.table(("server", "power cuts", "acknowledged", "of these lost"), rows)
    return held

"""What happens to the links between the parts of a mesh."""

import time
from collections.abc import Callable, Mapping
from functools import partial

from tests.support.fault_proxy import CUT, SOUND, FaultProxy, Trouble
from tests.support.mesh import Mesh

SECONDS = 6.0
"""Twice the lease that the mesh is given here."""
TROUBLES: Mapping[str, Trouble] = {
    "cut": CUT,
    "silent back": Trouble(deaf=True),
    "silent forth": Trouble(dumb=True),
    "slow (100 ms, 100 kB/s)": Trouble(latency_seconds=0.1, bytes_per_second=100_000),
    "reset after 20 kB": Trouble(reset_after_bytes=20_000),
}


def link_mishaps(links: Mapping[str, FaultProxy]) -> dict[str, Callable[[Mesh], None]]:
    """Everything that can happen to each link, by a name."""
    found: dict[str, Callable[[Mesh], None]] = {}
    for target, link in links.items():
        for name, trouble in TROUBLES.items():
            found[f"{target}: {name} for {SECONDS:.0f} s"] = partial(_endure, link, trouble)
        found[f"{target}: connections forgotten"] = partial(_forget, link)
    return found


def _endure(link: FaultProxy, trouble: Trouble, _: Mesh) -> None:
    link.trouble = trouble
    time.sleep(SECONDS)
    link.trouble = SOUND


def _forget(link: FaultProxy, _: Mesh) -> None:
    """Nothing comes over them any more, and neither end is told."""
    link.forget()

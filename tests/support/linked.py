"""A mesh whose parts reach each other over links that can fail: python -m tests.support.linked.

Run as a module it is the launcher's supervisor, but services are told the ports of the links in
place of those behind them.
"""

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from services.mesh import fleet, launch, supervisor
from services.mesh.child import ChildSpec
from services.mesh.home import PORTS, Home
from services.mesh.programs import python_module
from tests.support.fault_proxy import FaultProxy
from tests.support.mesh import Mesh, running_mesh

LINKED = ("postgres", "nats", "scheduler", "triplets", "serving", "gateway")
FIRST_PORT, LAST_PORT = 20_000, 30_000  # below those that are given out for asking

_services = fleet.services


@contextmanager
def linked_mesh(folder: Path, **settings: str) -> Iterator[tuple[Mesh, dict[str, FaultProxy]]]:
    """A mesh and its links by what they lead to."""
    base = _free_block()
    ports = {name: base + offset for offset, name in enumerate(PORTS)}
    links = {name: FaultProxy(ports[name]) for name in LINKED}
    told = json.dumps({str(ports[name]): str(link.port) for name, link in links.items()})
    settings |= {"TRINE_PORT_BASE": str(base), "LINKS": told}
    linked = patch.object(launch, "python_module", lambda _: python_module("tests.support.linked"))
    try:
        with linked, running_mesh(folder, **settings) as mesh:
            yield mesh, links
    finally:
        for link in links.values():
            link.close()


def _free_block() -> int:
    """The first of as many consecutive ports as a mesh needs, none of them in use."""
    start = FIRST_PORT + os.getpid() % 100 * 100
    for base in range(start, LAST_PORT, len(PORTS)):
        held: list[socket.socket] = []
        try:
            held += [socket.create_server(("127.0.0.1", base + n)) for n in range(len(PORTS))]
        except OSError:
            continue
        finally:
            for one in held:
                one.close()
        return base
    raise AssertionError("there are no ports")


def services(*arguments: Any, **more: Any) -> list[ChildSpec]:
    """In place of the launcher's: other parts are where their links begin."""
    links: Mapping[str, str] = json.loads(os.environ["LINKS"])
    return [
        replace(spec, environment=_over_links(spec.environment, links))
        for spec in _services(*arguments, **more)
    ]


def _over_links(environment: Mapping[str, str], links: Mapping[str, str]) -> dict[str, str]:
    own = {"TRINE_GRPC_ADDRESS", "TRINE_METRICS_ADDRESS", "TRINE_HTTP_ADDRESS"}
    changed = dict(environment)
    for name in environment.keys() - own:
        for port, link in links.items():
            changed[name] = changed[name].replace(f"127.0.0.1:{port}", f"127.0.0.1:{link}")
    return changed


if __name__ == "__main__":
    with patch.object(fleet, "services", services):
        supervisor.main(Home.from_environment())

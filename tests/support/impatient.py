"""A supervisor whose services start at once: python -m tests.support.impatient.

They come from a nursery, and one that dies is started again without a pause. Everything else is as
the launcher has it.
"""

import os
import socket
import tempfile
from pathlib import Path
from unittest.mock import patch

from services.mesh import child, supervisor
from services.mesh.home import SERVICES, Home
from tests.support import nursery

_plain_start = child.Child.start


async def start(self: child.Child, address: str) -> None:
    """In place of Child.start."""
    if self.spec.name not in SERVICES:
        await _plain_start(self)
        return
    spec = self.spec
    process = await nursery.fork(address, spec.name, spec.log, spec.environment)
    self._process = process  # type: ignore[assignment]  # what of it is used is there
    self._on_change()


def raise_services(listening: socket.socket) -> None:
    """The nursery's life, in its process."""
    nursery.die_with_parent()
    wirings = nursery.import_wirings(SERVICES)
    gazetteer = wirings["triplets"].GeoNamesGazetteer()  # a second, at each start
    setattr(wirings["triplets"], "GeoNamesGazetteer", lambda: gazetteer)  # noqa: B010
    nursery.serve(listening)


def main() -> None:
    """Runs the mesh of $TRINE_HOME."""
    with tempfile.TemporaryDirectory(prefix="trine-nursery-") as folder:
        address = str(Path(folder) / "nursery")
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(address)
        listening.listen()
        if not os.fork():
            raise_services(listening)
        listening.close()
        forks = patch.object(child.Child, "start", lambda self: start(self, address))
        with forks, patch.object(child, "BACKOFF_SECONDS", (0.0,)):
            supervisor.main(Home.from_environment())


if __name__ == "__main__":
    main()

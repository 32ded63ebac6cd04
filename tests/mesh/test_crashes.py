"""Every crash point once: a process dies there under load, is started again, nothing is lost."""

from pathlib import Path

import pytest

from tests.support.crashes import crash_points, mortal_mesh, verify
from tests.support.crowd import Crowd
from tests.support.mesh import Json
from tests.support.receiver import receiving

SECONDS_MAX = 200


@pytest.mark.timeout(3 * SECONDS_MAX)
def test_nothing_is_lost_wherever_a_process_dies(tmp_path: Path) -> None:
    # A trainer's death costs a lease: it dies at all of its points in tests/rpc/test_deaths.py.
    points = {**crash_points(), "trainer": ["trainer.head.learned"]}
    with receiving() as receiver, mortal_mesh(tmp_path) as (mesh, crashes):
        crowd = Crowd(mesh, receiver.url)
        crashes.plan({service: dict.fromkeys(names, 1) for service, names in points.items()})
        with crowd.at_work(SECONDS_MAX + 30):
            crashes.wait(SECONDS_MAX)
        verify(mesh, crowd.told, receiver.heard)
        now: Json | None = mesh.home.read_mesh()
    assert now is not None
    restarts = {service: now["restarts"][service] for service in points}
    assert restarts == {service: len(names) for service, names in points.items()}

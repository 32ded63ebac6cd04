"""One mesh for all tests of this folder that do not take it apart."""

from collections.abc import Iterator

import pytest

from tests.support.mesh import Mesh, running_mesh


@pytest.fixture(scope="session")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mesh]:
    """A mesh that trains only on demand."""
    folder = tmp_path_factory.mktemp("mesh")
    with running_mesh(
        folder, TRINE_TRIPLETS_BUDGET="1000000", TRINE_WEBHOOK_NETWORKS="127.0.0.1/32"
    ) as running:
        yield running

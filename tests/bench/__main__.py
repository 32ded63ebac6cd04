"""Measures a mesh of its own against its floors and prints the ratios: python -m tests.bench.

All of one run's figures come from one machine in one state: quote the ratios, not the figures.
"""

import tempfile
from pathlib import Path

import uvloop

from tests.bench.ingest import DOMAIN, measure_outcomes, measure_people
from tests.bench.matches import measure_matches
from tests.bench.swaps import measure_swaps
from tests.bench.table import Table
from tests.bench.trainer import measure_trainer
from tests.bench.turn import measure_turn
from tests.support.mesh import Mesh, running_mesh


async def measure_mesh(mesh: Mesh, table: Table) -> None:
    """The mesh's figures: what comes in, what is learned, what goes out."""
    await measure_people(mesh, table)
    await measure_outcomes(mesh, table)
    run = mesh.train(DOMAIN)
    assert run["verdict"]["result"] == "promoted", run["verdict"]
    await measure_matches(mesh, table)
    await measure_swaps(mesh, run["head"], table)
    measure_turn(mesh, table)


def main() -> None:
    """Runs every measurement, one after another."""
    table = Table()
    with (
        tempfile.TemporaryDirectory(prefix="trine-bench-") as folder,
        running_mesh(Path(folder), TRINE_TRIPLETS_BUDGET="1000000") as mesh,
    ):
        uvloop.run(measure_mesh(mesh, table))
    measure_trainer(table)
    table.print()


if __name__ == "__main__":
    main()

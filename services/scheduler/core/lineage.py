"""Where a head comes from: the run and the manifest behind it, and the heads before it."""

from dataclasses import dataclass

from services.scheduler.core.errors import HeadNotFoundError
from services.scheduler.core.head import Ancestor, Head
from services.scheduler.core.manifest import Manifest
from services.scheduler.core.ports import Manifests, SchedulerStore
from services.scheduler.core.run import Run

ANCESTORS_MAX = 1_000


@dataclass(frozen=True, slots=True)
class Origin:
    """A head, the run that made it, and its manifest."""

    head: Head
    run: Run
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class Lineage:
    """A head's origin and the heads that it goes back to, nearest first."""

    origin: Origin
    ancestors: list[Ancestor]
    snapshot_kept: bool
    """Whether the snapshot that it learned from is still there."""


async def read_origin(
    store: SchedulerStore, manifests: Manifests, tenant: str, name: str
) -> Origin:
    """Returns a head and how it came to be.

    Raises:
        ArtifactsUnavailableError: its manifest cannot be read.
        HeadNotFoundError: the tenant has no such head.
    """
    head = await store.read_head(tenant, name)
    if head is None:
        raise HeadNotFoundError("", name)
    run = await store.read_run(tenant, head.run_id)
    assert run is not None, "a head outlived its run"
    return Origin(head, run, await manifests.read(head))


async def read_lineage(
    store: SchedulerStore, manifests: Manifests, tenant: str, name: str
) -> Lineage:
    """Returns where a head comes from, up to the encoder alone.

    Raises:
        ArtifactsUnavailableError: its manifest cannot be read.
        HeadNotFoundError: the tenant has no such head.
    """
    origin = await read_origin(store, manifests, tenant, name)
    ancestors = await store.ancestors(tenant, name, ANCESTORS_MAX)
    return Lineage(origin, ancestors, await manifests.has(origin.manifest.snapshot_digest))

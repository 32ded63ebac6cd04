"""The schemas of the services: migrated by their owner, each open to a role of its service alone.

The owner is who the mesh was given (TRINE_POSTGRES_DSN) or has made. It must own the database and
may create roles; a service gets the address of its own role and never the owner's.
"""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from services.chassis.database import create_role, migrate, migrations_of
from services.mesh.home import Secrets

SERVICES = Path(__file__).parents[1]
PLUMBING: Mapping[str, tuple[str, ...]] = {
    "gateway": (),
    "scheduler": ("outbox", "replies"),
    "triplets": ("replies",),
}
"""By service with a schema, which is named like it: the plumbing that has tables there."""


async def prepare_databases(owner: str, secrets: Secrets) -> dict[str, str]:
    """Makes roles and schemas as this release needs them; returns each service's address."""
    return dict(
        zip(
            PLUMBING,
            await asyncio.gather(*(_prepare(owner, secrets, s) for s in PLUMBING)),
            strict=True,
        )
    )


async def _prepare(owner: str, secrets: Secrets, service: str) -> str:
    address = urlsplit(owner)
    # Roles belong to a whole server, on which several owners may have a mesh each.
    role = f"{address.username}_{service}"
    password: str = getattr(secrets, f"{service}_postgres_password")
    await create_role(owner, role, password)
    folder = SERVICES / service / "migrations"
    await migrate(owner, service, migrations_of(folder, *PLUMBING[service]), role)
    host = address.netloc.rpartition("@")[2]
    return address._replace(netloc=f"{role}:{password}@{host}").geturl()

"""Who may connect to the mesh's own NATS: its configuration, and each user's address.

The mesh's users share an account; each tenant has one of its own, which imports what is its own.
"""

import string
from pathlib import Path

from services.mesh.home import Home, Secrets, write_private

TEMPLATES = Path(__file__).parents[2] / "deploy" / "nats"
DOMAIN = "trine"
"""As which a tenant's account knows what it imports of JetStream."""
LISTENERS_MAX = 4
"""Consumers of one tenant; each may be used by any number of processes."""


def write_nats_config(home: Home, port: int, monitor_port: int, secrets: Secrets) -> Path:
    """Writes what nats-server reads when it starts and on SIGHUP, and returns where."""
    users = sorted(secrets.nats_subscribers.items())
    path = home.config / "nats.conf"
    text = _rendered(
        "nats.conf",
        PORT=port,
        MONITOR_PORT=monitor_port,
        STORE=home.nats,
        MESH_PASSWORD=secrets.nats_password,
        SERVING_PASSWORD=secrets.nats_serving_password,
        TENANTS="".join(tenant_account(tenant, password) for tenant, password in users),
    )
    write_private(path, text)
    return path


def tenant_account(tenant: str, password: str) -> str:
    """A tenant's account as NATS is told of it."""
    names = (f"{tenant}_{number}" for number in range(1, LISTENERS_MAX + 1))
    listeners = (_rendered("listener.conf", TENANT=tenant, LISTENER=name) for name in names)
    return _rendered("tenant.conf", TENANT=tenant, PASSWORD=password, LISTENERS="".join(listeners))


def mesh_url(address: str, secrets: Secrets) -> str:
    """How the scheduler reaches NATS at an address (host:port)."""
    return f"nats://TRINE:{secrets.nats_password}@{address}"


def serving_url(address: str, secrets: Secrets) -> str:
    """How serving does."""
    return f"nats://SERVING:{secrets.nats_serving_password}@{address}"


def tenant_url(address: str, secrets: Secrets, tenant: str) -> str:
    """How a tenant does; without a user where it has none."""
    password = secrets.nats_subscribers.get(tenant)
    return f"nats://{address}" if password is None else f"nats://{tenant}:{password}@{address}"


def _rendered(name: str, **values: object) -> str:
    return string.Template((TEMPLATES / name).read_text()).substitute(values)

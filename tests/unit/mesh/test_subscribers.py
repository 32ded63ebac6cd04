"""Whom an operator lets listen: what can be said without a server."""

import asyncio
from pathlib import Path

import pytest

from services.mesh.home import Home
from services.mesh.nats_users import tenant_account
from services.mesh.operator import NoMeshError
from services.mesh.subscribers import SubscriberError, remove_subscriber


def test_nobody_is_removed_where_no_mesh_runs(tmp_path: Path) -> None:
    with pytest.raises(NoMeshError):
        asyncio.run(remove_subscriber(Home(tmp_path), "acme"))


def test_users_of_a_foreign_nats_are_its_operators_affair(tmp_path: Path) -> None:
    home = Home(tmp_path)
    held = home.try_lock()
    assert held is not None
    with held:
        home.write_mesh({"nats": "nats://op:secret@nats.example.com:4222", "pids": {"envoy": 1}})
        with pytest.raises(SubscriberError, match="TRINE_NATS_URL") as caught:
            asyncio.run(remove_subscriber(home, "acme"))
    assert "secret" not in str(caught.value)
    assert not home.secrets_file.exists()


def test_a_tenants_account_speaks_of_that_tenant_alone() -> None:
    first, second = tenant_account("acme", "pw-1"), tenant_account("acme-1", "pw-2")
    assert first.replace("acme", "acme-1").replace("pw-1", "pw-2") == second
    assert "acme_4.>" in first
    assert "acme_5" not in first
    assert "${" not in first

"""Who may do what no tenant may: whoever holds the secrets of the mesh that runs here."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc

from services.chassis.channel import open_channel
from services.mesh.home import Home, certificates


class NoMeshError(Exception):
    """No mesh runs here."""


@asynccontextmanager
async def channel_to(home: Home, service: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a service of the mesh that runs here.

    Raises:
        NoMeshError: none does.
    """
    mesh = home.read_mesh()
    if mesh is None or not home.is_running():
        raise NoMeshError
    address, token = mesh["services"][service], home.read_secrets().mesh_token
    async with open_channel(address, token, certificates()) as channel:
        yield channel

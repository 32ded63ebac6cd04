"""A REST client that costs next to nothing, so that what is measured is the mesh.

HTTP/1.1 on one connection that is kept alive: one request at a time, sent as bytes made before.
"""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from urllib.parse import urlsplit

from services.mesh.client import Json
from tests.support.mesh import Mesh

_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)\r\n")


class Connection:
    """One connection and what it asks with."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str, key: str
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._headers = (
            f"Host: {host}\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
        )

    def post(self, path: str, body: Json) -> bytes:
        """A request as bytes."""
        content = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\n{self._headers}Content-Length: {len(content)}\r\n\r\n"
        return head.encode() + content

    def is_open(self) -> bool:
        """Whether the other side has not closed it."""
        return not self._reader.at_eof()

    async def ask(self, request: bytes) -> bytes | None:
        """Sends a request and returns the answer's body; None for anything but 200."""
        head, body = await self.exchange(request)
        return body if head.startswith(b"HTTP/1.1 200 ") else None

    async def exchange(self, request: bytes) -> tuple[bytes, bytes]:
        """Sends a request and returns the answer's head and body."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = _LENGTH.search(head)
        assert length is not None, head
        return head, await self._reader.readexactly(int(length[1]))


@asynccontextmanager
async def open_connections(mesh: Mesh, count: int) -> AsyncIterator[list[Connection]]:
    """Connections to the mesh's public port."""
    place = urlsplit(mesh.told["rest"])
    async with AsyncExitStack() as stack:
        connections: list[Connection] = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(place.hostname, place.port)
            stack.callback(writer.close)
            connections.append(Connection(reader, writer, place.netloc, mesh.told["api_key"]))
        yield connections

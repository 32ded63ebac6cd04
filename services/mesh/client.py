"""A client of the public REST API, for the command line and the demo: any mesh, by URL and key."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import httpx

CONCURRENCY = 8
"""The HTTP library looks through all its connections at every call: 32 cost twice as much."""
SECONDS_MAX = 30.0

Json = dict[str, Any]


class ApiError(Exception):
    """The mesh refused a request; the text says why, in its own words."""

    def __init__(self, status: int, body: Json) -> None:
        super().__init__(body.get("message", f"HTTP {status}"))
        self.status = status
        details = body.get("details") or [{}]
        self.reason: str = details[0].get("reason", "")
        self.metadata: dict[str, str] = details[0].get("metadata", {})


class Client:
    """Calls the API with a key."""

    def __init__(self, http: httpx.AsyncClient) -> None:
        self._http = http

    async def call(self, method: str, path: str, body: Json | None = None, **query: str) -> Json:
        """Returns the answer's JSON.

        Raises:
            ApiError: the mesh refused.
        """
        response = await self._http.request(method, path, json=body, params=query)
        content: Json = response.json()
        if response.status_code >= httpx.codes.BAD_REQUEST:
            raise ApiError(response.status_code, content)
        return content

    async def call_all(
        self, method: str, path: str, bodies: Iterable[Json], done: Callable[[], None]
    ) -> None:
        """Makes many calls, some at a time; `done` hears of each."""
        turn = asyncio.Semaphore(CONCURRENCY)

        async def one(body: Json) -> None:
            async with turn:
                await self.call(method, path, body)
            done()

        async with asyncio.TaskGroup() as group:
            for body in bodies:
                group.create_task(one(body))


@asynccontextmanager
async def open_client(url: str, key: str) -> AsyncIterator[Client]:
    """A client of the mesh at a URL."""
    headers = {"Authorization": f"Bearer {key}"}
    limits = httpx.Limits(max_connections=CONCURRENCY)
    async with httpx.AsyncClient(
        base_url=url, headers=headers, timeout=SECONDS_MAX, limits=limits
    ) as http:
        yield Client(http)

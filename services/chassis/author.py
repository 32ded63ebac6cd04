"""On whose account something changes: it is kept with the change, in the same transaction.

A service that asks another on a caller's behalf says who that is; it is believed of the mesh alone.
"""

from collections.abc import Mapping
from contextvars import ContextVar
from typing import NamedTuple

AUTHOR_KEY = "trine-author"
REQUEST_KEY = "x-request-id"
"""Envoy gives each call from outside one."""
REQUEST_ID_CHARACTERS_MAX = 64


class Author(NamedTuple):
    """Whose change it is."""

    name: str
    """"key <id>" of an API key; "mesh" for what the mesh does by itself."""
    request_id: str = ""
    """Of the call that came from outside, where there is one."""

    def as_metadata(self) -> tuple[tuple[str, str], ...]:
        """What a call to another service says of its author."""
        named = ((AUTHOR_KEY, self.name),)
        return (*named, (REQUEST_KEY, self.request_id)) if self.request_id else named


THE_MESH = Author("mesh")
_current_author: ContextVar[Author] = ContextVar("author", default=THE_MESH)


def key_author(key_id: str, metadata: Mapping[str, str]) -> Author:
    """The author of a call that bears an API key."""
    return Author(f"key {key_id}", _request_id(metadata))


def mesh_author(metadata: Mapping[str, str]) -> Author:
    """The author of a call of the mesh: whoever it says."""
    return Author(metadata.get(AUTHOR_KEY, THE_MESH.name), _request_id(metadata))


def current_author() -> Author:
    """On whose account the running call, or what runs by itself, changes something."""
    return _current_author.get()


def set_current_author(author: Author) -> None:
    """Remembers the author for the rest of the running call."""
    _current_author.set(author)


def _request_id(metadata: Mapping[str, str]) -> str:
    return metadata.get(REQUEST_KEY, "")[:REQUEST_ID_CHARACTERS_MAX]

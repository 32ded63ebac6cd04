"""One page of a list."""

from dataclasses import dataclass
from typing import Generic, TypeVar

from services.gateway.core.errors import FieldInvalidError

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Page(Generic[Item]):
    """Some items, and whether others follow."""

    items: list[Item]
    has_more: bool


def page_of(found: list[Item], limit: int) -> Page[Item]:
    """The page of a list of which one item more than `limit` was asked for."""
    return Page(found[:limit], len(found) > limit)


def check_limit(limit: int, limit_max: int) -> None:
    """Refuses a page of a size that no page has."""
    if not 1 <= limit <= limit_max:
        raise FieldInvalidError("limit", f"an integer from 1 to {limit_max:,}")

"""Copies as deep as things can change: what a unit of work of a store in memory works on.

Values (frozen dataclasses, strings, arrays that nobody writes to) are shared, so that a unit costs
what its store's dictionaries cost, not what everything in them would.
"""

import dataclasses
from functools import cache
from typing import Any, TypeVar

Item = TypeVar("Item")


def copy_changeable(item: Item) -> Item:
    """Copies dictionaries, lists, sets and dataclasses that are not frozen, with all in them."""
    kind: Any = type(item)
    if not _is_changeable(kind):
        return item
    changed: Any = kind.__new__(kind)
    if isinstance(item, list):
        changed += [copy_changeable(v) if _is_changeable(v.__class__) else v for v in item]
    elif isinstance(item, set):
        changed |= item
    else:
        parts = changed if isinstance(item, dict) else vars(changed)
        parts.update(item if isinstance(item, dict) else vars(item))
        for key, value in parts.items():
            if _is_changeable(value.__class__):
                parts[key] = copy_changeable(value)
    return changed  # type: ignore[no-any-return]  # of the same kind


@cache
def _is_changeable(kind: Any) -> bool:
    if kind in (dict, list, set):
        return True
    return dataclasses.is_dataclass(kind) and not _parameters(kind).frozen


def _parameters(kind: Any) -> Any:
    return kind.__dataclass_params__

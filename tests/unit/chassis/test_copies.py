"""Copies share what cannot change, and nothing that can."""

from dataclasses import dataclass, field

from services.chassis.copies import copy_changeable


@dataclass(frozen=True)
class Value:
    """Cannot change."""

    parts: tuple[int, ...]


@dataclass
class Shelf:
    """Can."""

    values: dict[str, Value]
    numbers: dict[str, dict[int, list[int]]] = field(default_factory=dict)
    names: set[str] = field(default_factory=set)


def test_what_can_change_is_copied_at_every_depth() -> None:
    shelf = Shelf({"a": Value((1,))}, {"a": {1: [2]}}, {"b"})
    copied = copy_changeable({"shelf": [shelf]})["shelf"][0]
    copied.values["b"] = Value(())
    copied.numbers["a"][1].append(3)
    copied.names.add("c")
    assert shelf == Shelf({"a": Value((1,))}, {"a": {1: [2]}}, {"b"})


def test_what_cannot_change_is_shared() -> None:
    shelf = Shelf({"a": Value((1,))})
    assert copy_changeable(shelf).values["a"] is shelf.values["a"]

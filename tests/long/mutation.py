"""A mutation: one way to break the mesh, and the test that must see it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutation:
    """One replacement in one file.

    Attributes:
        invariant: The number of the invariant that it breaks (tests/RELIABILITY.md).
        name: What is broken, in words.
        path: The file, from the project's root.
        old: Text that stands exactly once in the file.
        new: What takes its place.
        test: Tests that must fail then, as pytest's arguments.
    """

    invariant: str
    name: str
    path: str
    old: str
    new: str
    test: str

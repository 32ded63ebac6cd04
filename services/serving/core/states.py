"""What a head makes of each person, remembered from match to match.

A state depends on the person's row and counts alone, not on who asks. Rows never change while they
keep their place, so a state holds as long as the counts are those that it was computed from.
"""

import threading
from collections.abc import Callable

import numpy as np

from services.serving.core.candidates import Floats, Partition, Rows, View

_COUNTS = 4

Describe = Callable[[View, Rows, Floats], Floats]
"""States [n, k] of rows, from their counts [n, 4]."""


class States:
    """The states of one domain under one head. Any number of threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._generation = -1
        self._known = np.zeros(0, np.bool_)
        self._counts: Floats = np.zeros((0, _COUNTS), np.float32)
        self._states: Floats = np.zeros((0, 0), np.float32)

    def of(self, partition: Partition, view: View, rows: Rows, describe: Describe) -> Floats:
        """States [n, k] of some rows of a view."""
        counts = partition.counts.take(view.numbers[rows], axis=0)  # ten times as fast as [...]
        with self._lock:
            if view.generation < self._generation:  # a match that began before the rows moved
                return describe(view, rows, counts)
            if view.generation > self._generation or len(view.numbers) > len(self._known):
                self._forget(view)
            known, same = self._known[rows], self._counts.take(rows, axis=0) == counts
            if not (known.all() and same.all()):
                stale = ~(known & same.all(axis=1))
                self._learn(rows[stale], counts[stale], describe(view, rows[stale], counts[stale]))
            return self._states.take(rows, axis=0)

    def _forget(self, view: View) -> None:
        size = len(view.numbers)
        self._generation = view.generation
        self._known = np.zeros(size, np.bool_)
        self._counts = np.zeros((size, _COUNTS), np.float32)
        self._states = np.zeros((size, 0), np.float32)

    def _learn(self, rows: Rows, counts: Floats, states: Floats) -> None:
        if not self._states.size:
            self._states = np.zeros((len(self._known), states.shape[1]), np.float32)
        self._known[rows] = True
        self._counts[rows] = counts
        self._states[rows] = states

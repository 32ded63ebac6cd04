"""The lists of strings of all candidates: an entry for each string, with the row whose it is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ListRows = tuple[Sequence[str], npt.NDArray[np.int32]]
"""The strings of n people one after another, and how many are each person's."""


@dataclass(frozen=True, slots=True)
class ListCodes:
    """One field's entries, in the order of the rows. Never changed: each batch makes the next."""

    owners: npt.NDArray[np.int32]
    """[entries] Rows."""
    codes: npt.NDArray[np.int32]
    """[entries] Index of the string in the field's dictionary."""

    def extended(self, start: int, lists: ListRows, dictionary: dict[str, int]) -> "ListCodes":
        """With the lists of new rows, the first of which is `start`; new strings get codes."""
        values, counts = lists
        rows = np.arange(start, start + len(counts), dtype=np.int32)
        codes = [dictionary.setdefault(value, len(dictionary)) for value in values]
        return ListCodes(
            np.concatenate([self.owners, np.repeat(rows, counts)]),
            np.concatenate([self.codes, np.array(codes, np.int32)]),
        )

    def moved(self, keep: npt.NDArray[np.intp]) -> "ListCodes":
        """Where only the rows in `keep`, ascending, stay, each at its place among them."""
        if not len(keep):
            return NO_LISTS
        places = np.searchsorted(keep, self.owners)
        stays = keep[np.minimum(places, len(keep) - 1)] == self.owners
        return ListCodes(places[stays].astype(np.int32), self.codes[stays])


NO_LISTS = ListCodes(np.zeros(0, np.int32), np.zeros(0, np.int32))

"""What domains that explore have shown, page by page, and what came of it.

From it follows what another order of the same pages would have brought. A slot is one candidate
at one rank of a page. Its level is that of the last outcome about the pair that names the page's
match: an outcome without a match_id belongs to no page.
"""

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from services.triplets.core.outcome import RETRACTED_LEVEL

PAGES_MAX = 20_000
SLOTS_MAX = 200_000
"""A snapshot holds the newest."""
NO_OUTCOME = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """P pages in the order of their matches, and their s slots in the order of each page."""

    seekers: npt.NDArray[np.int32]
    """[P]"""
    times: npt.NDArray[np.int64]
    """[P] Microseconds since 1970."""
    explored: npt.NDArray[np.bool_]
    """[P] Whether the page was shuffled."""
    slot_pages: npt.NDArray[np.int32]
    """[s] Index of the page."""
    candidates: npt.NDArray[np.int32]
    """[s]"""
    ranks: npt.NDArray[np.int32]
    """[s] From 1."""
    propensities: npt.NDArray[np.float64]
    """[s] Probability with which the candidate stands at the rank."""
    levels: npt.NDArray[np.int8]
    """[s] What came of it: a level, or NO_OUTCOME."""

    def only(self, kept: npt.NDArray[np.bool_]) -> "Pages":
        """Some of the pages [P]."""
        slots = kept[self.slot_pages]
        places = np.cumsum(kept, dtype=np.int32) - np.int32(1)
        return Pages(
            seekers=self.seekers[kept],
            times=self.times[kept],
            explored=self.explored[kept],
            slot_pages=places[self.slot_pages[slots]],
            candidates=self.candidates[slots],
            ranks=self.ranks[slots],
            propensities=self.propensities[slots],
            levels=self.levels[slots],
        )


NO_PAGES = Pages(
    seekers=np.zeros(0, np.int32),
    times=np.zeros(0, np.int64),
    explored=np.zeros(0, np.bool_),
    slot_pages=np.zeros(0, np.int32),
    candidates=np.zeros(0, np.int32),
    ranks=np.zeros(0, np.int32),
    propensities=np.zeros(0, np.float64),
    levels=np.zeros(0, np.int8),
)


def settle_pages(
    pages: Pages,
    there: npt.NDArray[np.bool_],
    seekers: npt.NDArray[np.int32],
    candidates: npt.NDArray[np.int32],
) -> Pages:
    """The pages that may be learned from; `there` says of each number whether somebody has it.

    A page that somebody has been erased from goes as a whole: nobody can order it any more. An
    outcome that was taken back is none; `seekers` and `candidates` are the pairs with one.
    """
    known = np.append(there, np.False_)  # whoever came in since has a number past the end
    people = known[np.minimum(pages.candidates, len(there))]
    gone = np.bincount(pages.slot_pages, ~people, minlength=len(pages.seekers)) > 0
    kept = pages.only(~gone & known[np.minimum(pages.seekers, len(there))])
    standing = seekers.astype(np.int64) * len(known) + candidates
    slots = kept.seekers[kept.slot_pages].astype(np.int64) * len(known) + kept.candidates
    counts = np.isin(slots, standing) & (kept.levels != RETRACTED_LEVEL)
    levels = np.where(counts, kept.levels, np.int8(NO_OUTCOME)).astype(np.int8)
    return replace(kept, levels=levels)

"""Explored pages read from the wire: what a trainer sends is checked before the gate weighs it."""

import numpy as np
from trine.scheduler.v1 import explored_pages_pb2 as pb

from services.scheduler.core.counterfactual import ScoredPages
from services.scheduler.core.errors import FieldInvalidError

SLOTS_MAX = 50_000
_PATH = "evaluation.pages"


def explored_pages(message: pb.ExploredPages) -> ScoredPages:
    """The pages of an evaluation; none where the message is absent.

    Raises:
        FieldInvalidError: names the first rule broken.
    """
    pages = ScoredPages(
        seekers=np.array(message.seekers, np.int32),
        explored=np.array(message.explored, np.bool_),
        slot_pages=np.array(message.slot_pages, np.int32),
        ranks=np.array(message.ranks, np.int32),
        propensities=np.array(message.propensities, np.float64),
        levels=np.array(message.levels, np.int32),
        challenger_scores=np.array(message.challenger_scores, np.float64),
        incumbent_scores=np.array(message.incumbent_scores, np.float64),
    )
    _check(pages)
    return pages


def _check(pages: ScoredPages) -> None:
    slots = len(pages.slot_pages)
    scores = (pages.challenger_scores, pages.incumbent_scores)
    columns = (pages.ranks, pages.propensities, pages.levels, *scores)
    if slots > SLOTS_MAX or len(pages.seekers) != len(pages.explored):
        rule = f"must be arrays of pages of one length, and of at most {SLOTS_MAX} slots"
        raise FieldInvalidError(_PATH, rule)
    if {column.size for column in columns} != {slots}:
        raise FieldInvalidError(_PATH, "must be arrays of slots of one length")
    steps = np.diff(pages.slot_pages, prepend=-1, append=len(pages.seekers))
    if not ((steps == 0) | (steps == 1)).all():
        raise FieldInvalidError(f"{_PATH}.slot_pages", "must be all pages, ascending")
    ranks = pages.ranks[np.lexsort((pages.ranks, pages.slot_pages))]
    starts = np.searchsorted(pages.slot_pages, pages.slot_pages)
    if (ranks != np.arange(1, slots + 1) - starts).any():
        raise FieldInvalidError(f"{_PATH}.ranks", "must be 1 to the length of each page")
    if not ((pages.propensities > 0) & (pages.propensities <= 1)).all():
        raise FieldInvalidError(f"{_PATH}.propensities", "must be above 0, at most 1")
    if not ((pages.levels >= -1) & (pages.levels <= 3)).all():  # four levels
        raise FieldInvalidError(f"{_PATH}.levels", "must be -1 to 3")
    if not (np.isfinite(pages.challenger_scores) & np.isfinite(pages.incumbent_scores)).all():
        raise FieldInvalidError(_PATH, "must have finite scores")

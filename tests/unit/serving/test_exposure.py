"""The log of exposures: bounded, in order, in messages of bounded size; ids sort by time."""

import asyncio
import datetime

import numpy as np

from services.serving.core import exposure as log_module
from services.serving.core.exposure import BATCH_EXPOSURES_MAX, Exposure, ExposureLog, new_match_id

NOW = datetime.datetime(2026, 5, 17, tzinfo=datetime.UTC)


def shown(name: str, count: int = 1) -> Exposure:
    """A match that showed so many people."""
    return Exposure(
        match_id=name,
        tenant="acme",
        domain="dating",
        head="general",
        tier="general",
        run_id="",
        match_time=NOW,
        seeker=0,
        first_rank=1,
        candidates=np.arange(count, dtype=np.int32),
        scores=np.zeros(count),
    )


class Drops:
    """Counts what was dropped."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, count: int) -> None:
        self.count += count


async def test_what_is_put_is_taken_in_its_order() -> None:
    log = ExposureLog(Drops())
    waiting = asyncio.create_task(log.take())
    await asyncio.sleep(0)
    log.put(shown("a"))
    assert [e.match_id for e in await waiting] == ["a"]
    log.put(shown("b"))
    log.put(shown("c"))
    assert [e.match_id for e in await log.take()] == ["b", "c"]


async def test_a_full_log_drops_what_comes_and_has_room_once_some_are_taken() -> None:
    drops = Drops()
    log = ExposureLog(drops, rows_max=8)
    for name in ("a", "b", "c"):
        log.put(shown(name, 3))
    assert drops.count == 1
    assert [e.match_id for e in await log.take()] == ["a", "b"]
    log.put(shown("d", 7))
    assert [e.match_id for e in await log.take()] == ["d"]
    log.lose(2)
    assert drops.count == 3


async def test_a_message_is_bounded_in_matches_and_in_people() -> None:
    log = ExposureLog(Drops())
    for _ in range(BATCH_EXPOSURES_MAX + 1):
        log.put(shown("few", 0))
    assert [len(await log.take()), len(await log.take())] == [BATCH_EXPOSURES_MAX, 1]
    many = log_module.BATCH_ROWS_MAX
    for count in (many // 2, many // 2, many * 2, 1):
        log.put(shown("many", count))
    sizes = [[len(e.candidates) for e in await log.take()] for _ in range(4)]
    assert sizes == [[many // 2], [many // 2], [many * 2], [1]]


def test_ids_sort_by_time_and_no_two_are_alike() -> None:
    moments = [NOW + datetime.timedelta(milliseconds=n) for n in range(50)]
    ids = [new_match_id(moment) for moment in moments]
    assert ids == sorted(ids)
    assert len({new_match_id(NOW) for _ in range(1_000)}) == 1_000
    assert {len(name) for name in ids} == {32}

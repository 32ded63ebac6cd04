"""What PostgreSQL and NATS have acknowledged outlives a power cut, with the launcher's settings."""

from pathlib import Path

import pytest

from tests.support.power import nats_lost, postgres_lost, why_not

LOAD_SECONDS = 0.5

pytestmark = pytest.mark.skipif(bool(why_not()), reason=why_not() or "disks can be mounted")


async def test_postgres_keeps_what_it_has_acknowledged(tmp_path: Path) -> None:
    acknowledged, lost = await postgres_lost(tmp_path, LOAD_SECONDS)
    assert acknowledged > 0
    assert lost == 0


async def test_nats_keeps_what_it_has_acknowledged(tmp_path: Path) -> None:
    acknowledged, lost = await nats_lost(tmp_path, LOAD_SECONDS)
    assert acknowledged > 0
    assert lost == 0


async def test_a_cut_takes_what_was_acknowledged_too_soon(tmp_path: Path) -> None:
    acknowledged, lost = await nats_lost(tmp_path, LOAD_SECONDS, safe=False)
    assert lost == acknowledged > 0

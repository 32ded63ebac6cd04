"""The implementations that each port's suite runs against."""

from collections.abc import AsyncIterator

import pytest

from services.scheduler.core.ports import SchedulerStore
from services.triplets.core.ports import TripletStore
from tests.support.buses import BusSetting, open_bus_setting
from tests.support.domains import open_triplet_store
from tests.support.infrastructure import Servers
from tests.support.runs import SchedulerSetting, open_scheduler


@pytest.fixture(params=["memory", "postgres"])
async def triplet_store(
    request: pytest.FixtureRequest, servers: Servers
) -> AsyncIterator[TripletStore]:
    """An empty triplet store."""
    async with open_triplet_store(request.param, servers) as store:
        yield store


@pytest.fixture(params=["memory", "postgres"])
async def setting(
    request: pytest.FixtureRequest, servers: Servers
) -> AsyncIterator[SchedulerSetting]:
    """An empty scheduler's store and what is around it."""
    async with open_scheduler(request.param, servers) as opened:
        yield opened


@pytest.fixture
def scheduler_store(setting: SchedulerSetting) -> SchedulerStore:
    """An empty scheduler's store."""
    return setting.store


@pytest.fixture(params=["memory", "nats"])
async def bus_setting(
    request: pytest.FixtureRequest, servers: Servers
) -> AsyncIterator[BusSetting]:
    """An empty bus and what it keeps."""
    async with open_bus_setting(request.param, servers) as opened:
        yield opened

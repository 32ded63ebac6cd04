"""Exposures in PostgreSQL."""

from collections.abc import Sequence

from services.chassis.database import EVERYONE, Database
from services.triplets.core.exposure import (
    KEEP_DAYS,
    ArmCounts,
    Exploration,
    Exposure,
    NamedExposure,
)
from services.triplets.core.outcome import POSITIVE_LEVEL, RETRACTED_LEVEL
from services.triplets.postgres.queries import SQL

_EXPLORATION_COLUMNS = ("share", "explored", "ranker_ranks", "propensities")


class PostgresExposureStore:
    """Exposures on a database bound to the triplet store's schema."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record(self, exposures: Sequence[Exposure]) -> None:
        """Keeps exposures."""
        rows = [
            (
                *(e.tenant, e.domain, e.match_id, e.head, e.tier, e.run_id, e.match_time),
                *(e.seeker, e.first_rank, list(e.candidates), list(e.scores)),
                *_exploration_row(e.exploration),
                *(e.rollout_id, e.arm),
            )
            for e in exposures
        ]
        tenants = {exposure.tenant for exposure in exposures}
        await self._database.of(*tenants).executemany(SQL["record_exposure"], rows)

    async def read(self, tenant: str, match_id: str) -> NamedExposure | None:
        """Returns a match of a tenant."""
        row = await self._database.of(tenant).fetchrow(SQL["read_exposure"], tenant, match_id)
        if row is None:
            return None
        content = dict(row)
        domain_id = content.pop("domain_id")
        explored = {name: content.pop(name) for name in _EXPLORATION_COLUMNS}
        exploration = None if explored["share"] is None else Exploration(**explored)
        exposure = Exposure(tenant=tenant, exploration=exploration, **content)
        numbers = [exposure.seeker, *exposure.candidates]
        names = await self._database.of(tenant).fetch(SQL["read_names"], domain_id, numbers)
        return NamedExposure(
            exposure=exposure, user_ids={name["number"]: name["user_id"] for name in names}
        )

    async def count_arms(self, tenant: str, domain: str, rollout_id: str) -> Sequence[ArmCounts]:
        """Counts the arms of a rollout."""
        rows = await self._database.of(tenant).fetch(
            SQL["count_arms"], tenant, domain, RETRACTED_LEVEL, rollout_id, POSITIVE_LEVEL
        )
        return [ArmCounts(**dict(row)) for row in rows]

    async def prune(self) -> None:
        """Forgets what is old."""
        await self._database.of(EVERYONE).execute(SQL["prune_exposures"], KEEP_DAYS)


def _exploration_row(exploration: Exploration | None) -> tuple[object, ...]:
    if exploration is None:
        return (None, None, None, None)
    ranks, propensities = list(exploration.ranker_ranks), list(exploration.propensities)
    return (exploration.share, exploration.explored, ranks, propensities)

"""What must always hold of runs, leases, heads and events, as rules over the scheduler's schema."""

from collections.abc import Sequence
from pathlib import Path

from services.chassis.database import Database
from services.chassis.invariants import (
    Find,
    Rule,
    UncheckableError,
    apart_rule,
    durable_rule,
    look,
    sql_rules,
)
from services.scheduler.core.errors import ArtifactsUnavailableError, FieldInvalidError
from services.scheduler.core.ports import Manifests
from services.scheduler.core.run import ACTIVE, AGE_MAX, MOVES

INVARIANTS = Path(__file__).parent / "invariants.sql"
ARTIFACTS_MAX = 200
"""As many are looked for by one rule; of more, some by chance."""

_CHECKPOINTS = """
select tenant || '/' || run_id as name, checkpoint_digest as digest from runs
where state = any($1::text[]) and checkpoint_digest <> '' order by random() limit $2
"""
_IN_USE = """
select h.tenant || '/' || h.domain || ' ' || h.head as name, h.manifest_digest as digest
from pointers as p join heads as h using (tenant, domain, head) order by random() limit $1
"""
_BEFORE = """
select b.tenant || '/' || b.domain || ' ' || b.head as name, b.manifest_digest as digest
from pointers as p
join heads as h using (tenant, domain, head)
join heads as b on b.tenant = h.tenant and b.domain = h.domain and b.head = h.parent
order by random() limit $1
"""


def scheduler_rules(database: Database, manifests: Manifests, lease_seconds: float) -> list[Rule]:
    """The rules; a lease lasts `lease_seconds`."""
    active = sorted(ACTIVE)
    ages = [AGE_MAX[state].total_seconds() for state in active]
    moves = [(before, after) for before, legal in MOVES.items() for after in legal]
    arguments: dict[str, list[object]] = {
        "I4_one_active_run": [active],
        "I4_index": [active],
        "I5_ages": [active, ages],
        "I15_runs": [[before for before, _ in moves], [after for _, after in moves]],
        "I19_leases": [lease_seconds],
    }
    checkpoints = _stored(database, manifests, _CHECKPOINTS, active, ARTIFACTS_MAX)
    return [
        durable_rule(database),
        apart_rule(database),
        *sql_rules(database, INVARIANTS, arguments),
        Rule("I7", "The checkpoint that an active run goes on from is stored.", checkpoints),
        Rule(
            "I8",
            "The manifest of a head in use is stored under its digest, signed, and the head's own.",
            _signed(database, manifests),
        ),
        Rule(
            "I11",
            "The head before the one in use is stored, to be rolled back to.",
            _stored(database, manifests, _BEFORE, ARTIFACTS_MAX),
        ),
    ]


def _stored(database: Database, manifests: Manifests, query: str, *arguments: object) -> Find:
    async def find() -> Sequence[str]:
        rows = await look(database, query, *arguments)
        try:
            return [row["name"] for row in rows if not await manifests.has(row["digest"])]
        except ArtifactsUnavailableError as error:
            raise UncheckableError("the artifact store does not answer") from error

    return find


def _signed(database: Database, manifests: Manifests) -> Find:
    async def is_own(name: str, digest: str) -> bool:
        try:
            manifest = await manifests.read_told(digest)
        except FieldInvalidError:
            return False
        except ArtifactsUnavailableError as error:
            raise UncheckableError("the artifact store does not answer") from error
        return name == f"{manifest.tenant}/{manifest.domain} {manifest.head}"

    async def find() -> Sequence[str]:
        rows = await look(database, _IN_USE, ARTIFACTS_MAX)
        return [row["name"] for row in rows if not await is_own(row["name"], row["digest"])]

    return find

"""Crafted and mutated heads: how many are loaded that must not be."""

import asyncio

from services.serving.core.errors import HeadRefusedError
from services.serving.graph import check_graph
from tests.long.record import Record
from tests.support.hostile_graphs import GRAPHS, changed
from tests.support.mutated_heads import Mutator, Tally

CHANGED_BYTES = 10_000
SIGNED_ANEW = 5_000
TOLD_EVERY = 500


def measure_artifacts(record: Record) -> bool:
    """Holds if nothing is loaded that is not what its trainer signed and saw."""
    crafted = [name for name, (change, _) in GRAPHS.items() if not _refused(changed(change))]
    mutator = Mutator(record.seed)
    asyncio.run(_mutate(mutator))
    record.say(f"Of {len(GRAPHS)} crafted graphs {len(crafted)} were let through.")
    rows = [
        ("bytes changed, digests as they were", mutator.as_they_are),
        ("changed, digested and signed anew", mutator.signed_anew),
    ]
    reasons = sorted({reason for _, tally in rows for reason in tally.refused})
    record.table(
        ("changed", "count", *(f"refused: {each}" for each in reasons), "says the same", "wrong"),
        [_row(name, tally, reasons) for name, tally in rows],
    )
    wrong = [*crafted, *mutator.as_they_are.wrong, *mutator.signed_anew.wrong]
    for told in wrong[:20]:
        record.say(f"Wrong: {told}")
    return not wrong


def _row(name: str, tally: Tally, reasons: list[str]) -> tuple[object, ...]:
    by_reason = (f"{tally.refused[reason]:,}" for reason in reasons)
    return (name, f"{tally.count:,}", *by_reason, tally.unchanged, len(tally.wrong))


async def _mutate(mutator: Mutator) -> None:
    for done in range(CHANGED_BYTES):
        await mutator.change_bytes()
        if not (done + 1) % TOLD_EVERY:
            print(f"{done + 1} with other bytes", flush=True)
    for done in range(SIGNED_ANEW):
        await mutator.sign_anew()
        if not (done + 1) % TOLD_EVERY:
            print(f"{done + 1} signed anew", flush=True)


def _refused(content: bytes) -> bool:
    try:
        check_graph(content)
    except HeadRefusedError:
        return True
    return False

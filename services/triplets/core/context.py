"""What is said of a person piece by piece, and how much of it is kept."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

CONTEXTS_MAX = 100
CONTEXTS_BYTES_MAX = 256 * 1024
SOURCE_CHARACTERS_MAX = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """One piece: a message, a transcript, something that the person did."""

    context_id: str
    content: str
    source: str
    occurred_at: datetime.datetime


def add_context(known: Sequence[Context], new: Context) -> list[Context]:
    """Returns the contexts that are kept, newest first; of equally old ones the last to arrive.

    Args:
        known: those kept so far, newest first.
        new: one more.

    Beyond the limits the oldest go, which may be the new one itself.
    """
    newest_first = sorted([new, *known], key=lambda context: context.occurred_at, reverse=True)
    kept: list[Context] = []
    bytes_left = CONTEXTS_BYTES_MAX
    for context in newest_first[:CONTEXTS_MAX]:
        bytes_left -= len(context.content.encode())
        if bytes_left < 0:
            break
        kept.append(context)
    return kept

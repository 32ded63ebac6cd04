"""Erasing a person: they, and whatever they said or was said of them, as if they never had come."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.triplets.core.errors import UserNotFoundError
from services.triplets.core.outcome import Pair, Word
from services.triplets.core.ports import DomainUnit
from services.triplets.core.tally import Tally


@dataclass(frozen=True, slots=True, kw_only=True)
class Erasure:
    """What went, and where the person remains."""

    outcomes_count: int
    """Pairs that had a standing outcome."""
    snapshot_digests: Sequence[str]
    """Snapshots taken while the person was there, newest first; heads name theirs."""


def hash_id(tenant: str, user_id: str) -> bytes:
    """What is kept of an erased person's id: whoever knows the id can ask for it again."""
    return hashlib.sha256(f"{tenant}\0{user_id}".encode()).digest()


async def erase_user(unit: DomainUnit, user_id: str) -> Erasure:
    """Erases a person, whose number nobody gets again.

    Tallies of others and the triplet count become what they would be without the person.

    Raises:
        UserNotFoundError: there is no such person.
    """
    number = (await unit.find_numbers([user_id])).get(user_id)
    if number is None:
        raise UserNotFoundError("user_id", user_id)
    words = await unit.words_about(number)
    people = sorted({number, *(other for pair in words for other in pair)})
    before = await unit.tallies(people)
    after = {**_without(words, number, before), number: Tally()}
    added = sum(after[n].triplets_count - before[n].triplets_count for n in people)
    changed = {n: after[n] for n in people if n != number and after[n] != before[n]}
    positives = sum(after[n].positives_count - before[n].positives_count for n in people)
    await unit.save_tallies(changed, added, positives)
    digests = await unit.snapshots_with(number)
    await unit.erase_user(number, hash_id(unit.counts.tenant, user_id))
    standing = sum(word.counted_level is not None for word in words.values())
    return Erasure(outcomes_count=standing, snapshot_digests=digests)


def _without(
    words: Mapping[Pair, Word], number: int, before: Mapping[int, Tally]
) -> dict[int, Tally]:
    after = dict(before)
    for pair, word in words.items():
        level = word.counted_level
        if pair.candidate == number:
            after[pair.seeker] = after[pair.seeker].give(level, None)
        else:
            after[pair.candidate] = after[pair.candidate].receive(level, None)
    return after

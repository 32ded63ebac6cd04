"""Recording what happened: at a cost that does not grow with what is there.

A batch is recorded whole or not at all, unless its sender asks for its good part.
"""

import dataclasses
import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from services.triplets.core.errors import (
    FieldInvalidError,
    LabelUnknownError,
    TripletsError,
    UserNotFoundError,
)
from services.triplets.core.label import BUILT_IN, Label
from services.triplets.core.outcome import (
    AHEAD_MAX,
    MATCH_ID_CHARACTERS_MAX,
    OCCURRED_AT_MIN,
    WEIGHT_MAX,
    Outcome,
    Pair,
    Word,
)
from services.triplets.core.ports import DomainUnit
from services.triplets.core.profile import check_user_id
from services.triplets.core.tally import Tally

ITEMS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeDraft:
    """An outcome as a caller reports it."""

    seeker_id: str
    candidate_id: str
    label: str
    weight: float | None
    """None for the label's own."""
    occurred_at: datetime.datetime | None
    """None for a time that no calendar knows."""
    match_id: str = ""


@dataclass(frozen=True, slots=True)
class ItemError:
    """What is wrong with one item."""

    index: int
    error: TripletsError


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportResult:
    """What a batch changed."""

    accepted_count: int
    triplets_generated_count: int
    triplets_pending_count: int
    errors: Sequence[ItemError]
    """By index; the items that were left out."""


class Sieve:
    """Lets the first error of a batch out, or, of a partial one, keeps it beside its item."""

    def __init__(self, *, partial: bool) -> None:
        self._partial = partial
        self._errors: dict[int, TripletsError] = {}

    def catch(self, index: int, error: TripletsError) -> None:
        """Takes the error of an item."""
        if not self._partial:
            raise error
        self._errors[index] = error

    def holds(self, index: int) -> bool:
        """Whether the item is wrong."""
        return index in self._errors

    @property
    def errors(self) -> list[ItemError]:
        """All of them, by index."""
        return [ItemError(index, self._errors[index]) for index in sorted(self._errors)]


def check_drafts(
    drafts: Sequence[OutcomeDraft], now: datetime.datetime, *, partial: bool = False
) -> Sieve:
    """Refuses what breaks a rule which needs no look at the store."""
    if not 1 <= len(drafts) <= ITEMS_MAX:
        raise FieldInvalidError("items", f"must be 1 to {ITEMS_MAX}")
    sieve = Sieve(partial=partial)
    for index, draft in enumerate(drafts):
        try:
            _check_draft(f"items[{index}]", draft, now)
        except TripletsError as error:
            sieve.catch(index, error)
    return sieve


def _check_draft(path: str, draft: OutcomeDraft, now: datetime.datetime) -> None:
    check_user_id(f"{path}.seeker_id", draft.seeker_id)
    check_user_id(f"{path}.candidate_id", draft.candidate_id)
    if draft.weight is not None and not 0 < draft.weight <= WEIGHT_MAX:  # NaN fails too
        raise FieldInvalidError(f"{path}.weight", f"must be above 0 and at most {WEIGHT_MAX:g}")
    if draft.seeker_id == draft.candidate_id:
        raise FieldInvalidError(f"{path}.candidate_id", "must differ from seeker_id")
    moment = draft.occurred_at
    if moment is None or not OCCURRED_AT_MIN <= moment <= now + AHEAD_MAX:
        raise FieldInvalidError(f"{path}.occurred_at", "must be between 1900 and a day from now")
    if len(draft.match_id) > MATCH_ID_CHARACTERS_MAX or not draft.match_id.isprintable():
        rule = f"must have at most {MATCH_ID_CHARACTERS_MAX} printable characters"
        raise FieldInvalidError(f"{path}.match_id", rule)


async def report_outcomes(
    unit: DomainUnit, drafts: Sequence[OutcomeDraft], sieve: Sieve
) -> ReportResult:
    """Records checked drafts and keeps tallies and the triplet count in step with them."""
    outcomes = await _resolve(unit, drafts, sieve)
    added = await _record(unit, outcomes) if outcomes else 0
    pending = unit.counts.triplets_count + added - unit.counts.trained_triplets_count
    return ReportResult(
        accepted_count=len(outcomes),
        triplets_generated_count=max(0, added),
        triplets_pending_count=max(0, pending),
        errors=sieve.errors,
    )


async def _resolve(unit: DomainUnit, drafts: Sequence[OutcomeDraft], sieve: Sieve) -> list[Outcome]:
    """The outcomes of sound drafts: labels and people looked up."""
    sound = [(index, draft) for index, draft in enumerate(drafts) if not sieve.holds(index)]
    user_ids = {user_id for _, draft in sound for user_id in (draft.seeker_id, draft.candidate_id)}
    numbers = await unit.find_numbers(sorted(user_ids))
    labels = {**BUILT_IN, **unit.labels}
    outcomes: list[Outcome] = []
    for index, draft in sound:
        path = f"items[{index}]"
        label = labels.get(draft.label)
        if label is None:
            known = tuple(labels)
            sieve.catch(index, LabelUnknownError(f"{path}.outcome", draft.label, known))
        elif draft.seeker_id not in numbers:
            sieve.catch(index, UserNotFoundError(f"{path}.seeker_id", draft.seeker_id))
        elif draft.candidate_id not in numbers:
            sieve.catch(index, UserNotFoundError(f"{path}.candidate_id", draft.candidate_id))
        else:
            pair = Pair(numbers[draft.seeker_id], numbers[draft.candidate_id])
            outcomes.append(Outcome(pair, label.name, _word(draft, label), draft.match_id))
    return outcomes


def _word(draft: OutcomeDraft, label: Label) -> Word:
    assert draft.occurred_at is not None
    weight = label.weight if draft.weight is None else draft.weight
    return Word(draft.occurred_at, label.level, weight)


async def _record(unit: DomainUnit, outcomes: Sequence[Outcome]) -> int:
    """Records outcomes and returns the triplets that they add, which may be below zero."""
    standing = dict(await unit.standing_words(list({outcome.pair for outcome in outcomes})))
    people = {number for outcome in outcomes for number in outcome.pair}
    before = await unit.tallies(sorted(people))
    after = dict(before)
    for outcome in outcomes:
        stands = standing.get(outcome.pair)
        if stands is None or outcome.word > stands:
            standing[outcome.pair] = outcome.word
            _count(after, outcome, stands)
    changed = {number: tally for number, tally in after.items() if tally != before[number]}
    seekers = {outcome.pair.seeker for outcome in outcomes}
    added = sum(after[n].triplets_count - before[n].triplets_count for n in seekers)
    await unit.append_outcomes(outcomes)
    positives = sum(after[n].positives_count - before[n].positives_count for n in seekers)
    await unit.save_tallies(changed, added, positives)
    await _mark_used(unit, outcomes)
    return added


def _count(tallies: dict[int, Tally], outcome: Outcome, stands: Word | None) -> None:
    before = None if stands is None else stands.counted_level
    after = outcome.word.counted_level
    seeker, candidate = outcome.pair
    tallies[seeker] = tallies[seeker].give(before, after)
    tallies[candidate] = tallies[candidate].receive(before, after)


async def _mark_used(unit: DomainUnit, outcomes: Sequence[Outcome]) -> None:
    own = unit.labels
    fresh = {o.label for o in outcomes if o.label in own and not own[o.label].used}
    if fresh:
        marked = {name: dataclasses.replace(own[name], used=True) for name in fresh}
        await unit.save_labels({**own, **marked})

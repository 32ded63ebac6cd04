"""Recording what happened: whole batches, at a cost that does not grow with what is there."""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass

from services.triplets.core.errors import FieldInvalidError, LabelUnknownError, UserNotFoundError
from services.triplets.core.outcome import (
    AHEAD_MAX,
    LEVELS,
    OCCURRED_AT_MIN,
    WEIGHT_MAX,
    Outcome,
    Pair,
    Word,
)
from services.triplets.core.ports import DomainUnit
from services.triplets.core.tally import Tally

ITEMS_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class OutcomeDraft:
    """An outcome as a caller reports it."""

    seeker_id: str
    candidate_id: str
    label: str
    weight: float
    occurred_at: datetime.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportResult:
    """What a batch changed."""

    accepted_count: int
    triplets_generated_count: int
    triplets_pending_count: int


def check_drafts(drafts: Sequence[OutcomeDraft], now: datetime.datetime) -> None:
    """Refuses a batch that breaks a rule which needs no look at the store."""
    if not 1 <= len(drafts) <= ITEMS_MAX:
        raise FieldInvalidError("items", f"must be 1 to {ITEMS_MAX}")
    for index, draft in enumerate(drafts):
        path = f"items[{index}]"
        for field, user_id in (
            ("seeker_id", draft.seeker_id),
            ("candidate_id", draft.candidate_id),
        ):
            if not user_id:
                raise FieldInvalidError(f"{path}.{field}", "must be given")
        if draft.label not in LEVELS:
            raise LabelUnknownError(f"{path}.outcome", draft.label, tuple(LEVELS))
        if not 0 < draft.weight <= WEIGHT_MAX:  # NaN fails too
            raise FieldInvalidError(f"{path}.weight", f"must be above 0 and at most {WEIGHT_MAX:g}")
        if draft.seeker_id == draft.candidate_id:
            raise FieldInvalidError(f"{path}.candidate_id", "must differ from seeker_id")
        if not OCCURRED_AT_MIN <= draft.occurred_at <= now + AHEAD_MAX:
            rule = "must be between 1900 and a day from now"
            raise FieldInvalidError(f"{path}.occurred_at", rule)


async def report_outcomes(unit: DomainUnit, drafts: Sequence[OutcomeDraft]) -> ReportResult:
    """Records checked drafts and keeps tallies and the triplet count in step with them."""
    outcomes = await _resolve(unit, drafts)
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
    await unit.save_tallies(changed, added)
    pending = unit.counts.triplets_count + added - unit.counts.trained_triplets_count
    return ReportResult(
        accepted_count=len(outcomes),
        triplets_generated_count=max(0, added),
        triplets_pending_count=max(0, pending),
    )


async def _resolve(unit: DomainUnit, drafts: Sequence[OutcomeDraft]) -> list[Outcome]:
    user_ids = {user_id for draft in drafts for user_id in (draft.seeker_id, draft.candidate_id)}
    numbers = await unit.find_numbers(sorted(user_ids))
    outcomes: list[Outcome] = []
    for index, draft in enumerate(drafts):
        for field, user_id in (
            ("seeker_id", draft.seeker_id),
            ("candidate_id", draft.candidate_id),
        ):
            if user_id not in numbers:
                raise UserNotFoundError(f"items[{index}].{field}", user_id)
        pair = Pair(numbers[draft.seeker_id], numbers[draft.candidate_id])
        word = Word(draft.occurred_at, LEVELS[draft.label], draft.weight)
        outcomes.append(Outcome(pair, draft.label, word))
    return outcomes


def _count(tallies: dict[int, Tally], outcome: Outcome, stands: Word | None) -> None:
    before = None if stands is None else stands.level
    seeker, candidate = outcome.pair
    tallies[seeker] = tallies[seeker].give(before, outcome.word.level)
    tallies[candidate] = tallies[candidate].receive(before, outcome.word.level)

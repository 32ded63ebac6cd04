"""The triplet store under faults: outcomes that come twice, late and in any order, and erasures.

Use cases, rule and counters are the real ones over the store in memory. What should stand is worked
out beside them, from the words alone; after each commit the counters must say the same, and now and
then triplets are formed from scratch.
"""

import datetime
import random
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from services.chassis.copies import copy_changeable
from services.triplets.core.erase_user import Erasure, erase_user
from services.triplets.core.errors import TripletsError
from services.triplets.core.report_outcomes import (
    OutcomeDraft,
    ReportResult,
    check_drafts,
    report_outcomes,
)
from services.triplets.core.triplet import form_triplets, hash_ids
from services.triplets.memory import MemoryTripletStore, _Domain
from tests.support.domains import DOMAIN, SCHEMA, TENANT, profile_of
from tests.support.simulation.stage import Stage, Stepped, Turn, require

START = datetime.datetime(2026, 5, 17, 12, tzinfo=datetime.UTC)
USERS = tuple(f"u{number}" for number in range(12))
SEEKERS = USERS[:2]
LABELS = ("rejected", "expired", "accepted", "converted", "retracted")
"""Of two words of one moment the later here stands."""
NEGATIVES_MAX = 8
TURNS = 60
ACTIVITIES_MAX = 6
FORMED_SHARE = 0.2
"""Of the commits after which triplets are formed from scratch."""
PairName = tuple[str, str]
Spoken = tuple[datetime.datetime, int, float]
"""When, which label, which weight: the largest stands."""
Words = dict[PairName, Spoken]


class Outcomes:
    """One domain of one schedule."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.stage = Stage(self.random, (TripletsError,))
        self.store = _fresh_store()
        self.writing = False
        self.words: Words = {}
        """Every word that stands."""
        self.users = set(USERS)
        self.batches: list[list[OutcomeDraft]] = []
        self.past: list[tuple[int, Words]] = []
        """What stood at a revision, since the last erasure."""

    @property
    def _domain(self) -> _Domain:
        return self.store._domains[TENANT, DOMAIN]

    def run(self) -> None:
        """Lets everything happen, then says all that stands again, in another order.

        Raises:
            Violation: an invariant does not hold.
        """
        actions = (
            self._report,
            self._repeat,
            self._erase,
            self._return,
            self._snapshot,
            self._kill,
        )
        weights = [w * self.stage.pick((0.2, 1.0, 3.0)) for w in (8.0, 3.0, 0.5, 0.5, 1.5, 1.0)]
        for _ in range(TURNS):
            under_way = len(self.stage.activities)
            if under_way < 2 or (under_way < ACTIVITIES_MAX and self.stage.chance(0.4)):
                action = self.random.choices(actions, weights)[0]
                self.stage.note(f"> {action.__name__.strip('_')}")
                action()
            else:
                self.stage.step()
        self.stage.finish()
        formed = self._form(self.store, self.words)
        self.stage.note(f"{len(formed)} triplets")
        self._say_again(formed)

    def _report(self) -> None:
        self.batches.append([self._draft() for _ in range(self.stage.pick((1, 3, 5, 8, 12)))])
        self._start_report(self.batches[-1])

    def _draft(self) -> OutcomeDraft:
        seeker = self.stage.pick(SEEKERS if self.stage.chance(0.9) else USERS)
        others = [user for user in USERS if user != seeker]
        stranger = self.stage.chance(0.02)
        return OutcomeDraft(
            seeker_id=seeker,
            candidate_id="nobody" if stranger else self.stage.pick(others),
            label=self.stage.pick(LABELS),
            weight=self.stage.pick((None, 0.5, 2.0)),
            occurred_at=START + datetime.timedelta(hours=self.stage.pick(range(4))),
        )

    def _repeat(self) -> None:
        """A batch comes again: its answer was lost, or it was on its way for long."""
        if self.batches:
            self._start_report(self.stage.pick(self.batches))

    def _start_report(self, drafts: Sequence[OutcomeDraft]) -> None:
        partial = self.stage.chance(0.5)
        self.stage.start("caller", "report", self._record(drafts, partial=partial))

    async def _record(self, drafts: Sequence[OutcomeDraft], *, partial: bool) -> None:
        sieve = check_drafts(drafts, START + datetime.timedelta(days=1), partial=partial)
        await self._change(
            lambda unit: report_outcomes(unit, drafts, sieve),
            lambda result: self._hear(drafts, result),
        )

    def _is_good(self, draft: OutcomeDraft) -> bool:
        return {draft.seeker_id, draft.candidate_id} <= self.users

    def _hear(self, drafts: Sequence[OutcomeDraft], result: ReportResult) -> None:
        good = [draft for draft in drafts if self._is_good(draft)]
        accepted = result.accepted_count
        require(accepted == len(good), "I2", f"{accepted} of {len(good)} were accepted")
        for draft in good:
            assert draft.occurred_at is not None
            weight = 1.0 if draft.weight is None else draft.weight
            spoken = (draft.occurred_at, LABELS.index(draft.label), weight)
            pair = (draft.seeker_id, draft.candidate_id)
            self.words[pair] = max(self.words.get(pair, spoken), spoken)

    def _erase(self) -> None:
        user = self.stage.pick(USERS)
        self.stage.start("caller", f"erase {user}", self._forget(user))

    async def _forget(self, user: str) -> None:
        def heard(_: Erasure) -> None:
            self.users.discard(user)
            self.words = {pair: word for pair, word in self.words.items() if user not in pair}
            self.past.clear()

        await self._change(lambda unit: erase_user(unit, user), heard)

    def _return(self) -> None:
        user = self.stage.pick(USERS)
        self.stage.start("caller", f"bring {user}", self._bring(user))

    async def _bring(self, user: str) -> None:
        await self._change(
            lambda unit: unit.save_profile(profile_of(user), [0.0]), lambda _: self.users.add(user)
        )

    def _snapshot(self) -> None:
        self.stage.start("trainer", "snapshot", self._take_snapshot())

    async def _take_snapshot(self) -> None:
        """What was recorded by a revision is in its arrays, however late they are read."""
        revision = self._domain.revision
        while self.stage.chance(0.6):
            await Turn()
        for known, words in self.past:
            if known == revision:
                read = await self._read(self.store, revision)
                require(read == _counted(words), "I3", f"revision {revision} has other outcomes")

    def _kill(self) -> None:
        self.stage.kill("caller")

    async def _change(self, act: Any, heard: Any) -> Any:
        """Does something in a unit; what it comes to is judged with the commit."""
        await Turn(lambda: not self.writing)
        self.writing = True
        try:
            async with self.store.open_domain(TENANT, DOMAIN) as unit:
                result = await act(Stepped(unit, self.stage))
                await Turn()
            heard(result)
            self._judge()
        finally:
            self.writing = False
        self.past.append((self._domain.revision, dict(self.words)))
        if self.stage.chance(FORMED_SHARE):
            self._form(self.store, self.words)
        await Turn()
        return result

    def _judge(self) -> None:
        """The counters are what the standing words alone come to."""
        domain = self._domain
        given: dict[str, list[int]] = {}
        received: dict[str, list[int]] = {}
        for (seeker, candidate), (_, level, _) in _standing(self.words).items():
            given.setdefault(seeker, []).append(level)
            received.setdefault(candidate, []).append(level)
        count = sum(_triplets_count(levels) for levels in given.values())
        stands = f"{domain.triplets_count} triplets are counted, {count} there are"
        require(domain.triplets_count == count, "I2", stands)
        positives = sum(level >= 2 for levels in given.values() for level in levels)
        require(domain.positives_count == positives, "I2", "positive outcomes are miscounted")
        require(set(domain.users) == self.users, "I20", "another set of people")
        for name, user in domain.users.items():
            yes = [level >= 2 for level in given.get(name, [])]
            liked = [level >= 2 for level in received.get(name, [])]
            expected = (len(yes), sum(yes), len(liked), sum(liked))
            effects = domain.tallies[user.number][1].effects
            require(effects == expected, "I2", f"{name} has {effects}, {expected} is right")

    def _form(self, store: MemoryTripletStore, words: Words) -> dict[tuple[str, str, str], float]:
        """Forms triplets from scratch: weights by anchor, positive and negative.

        Raises:
            Violation: there are others than the words and the counter say.
        """
        domain = store._domains[TENANT, DOMAIN]
        arrays = _run(store.read_arrays(TENANT, DOMAIN, domain.revision))
        formed = form_triplets(
            arrays.seekers,
            arrays.candidates,
            arrays.levels,
            arrays.weights,
            hash_ids(arrays.user_ids),
        )
        names, found = arrays.user_ids, {}
        rows = zip(formed.indices.tolist(), formed.weights.tolist(), strict=True)
        for (anchor, positive, negative), weight in rows:
            liked, other = names[arrays.candidates[positive]], names[arrays.candidates[negative]]
            found[names[anchor], liked, other] = weight
        count = len(formed.indices)
        require(count == len(found) == domain.triplets_count, "I3", f"{count} triplets were formed")
        standing = _standing(words)
        for (anchor, liked, other), weight in found.items():
            better, worse = standing[anchor, liked], standing[anchor, other]
            right = better[2] * worse[2] * (better[1] - worse[1])
            require(
                right > 0 and right == weight, "I3", f"{anchor} {liked} {other} weighs {weight}"
            )
        return found

    def _say_again(self, formed: Mapping[tuple[str, str, str], float]) -> None:
        """What stands, said in another order and twice, comes to the same triplets."""
        store = _fresh_store()
        spoken = [
            OutcomeDraft(
                seeker_id=pair[0],
                candidate_id=pair[1],
                label=LABELS[label],
                weight=weight,
                occurred_at=moment,
            )
            for pair, (moment, label, weight) in self.words.items()
        ]
        self.random.shuffle(spoken)
        for drafts in (spoken[:3] + spoken[:1], spoken):
            if drafts:
                _run(_tell(store, drafts))
        require(self._form(store, self.words) == formed, "I2", "the order of arrival matters")

    async def _read(self, store: MemoryTripletStore, revision: int) -> Words:
        arrays = await store.read_arrays(TENANT, DOMAIN, revision)
        names = arrays.user_ids
        rows = zip(arrays.seekers, arrays.candidates, arrays.levels, arrays.weights, strict=True)
        return {(names[s], names[c]): (START, int(level), float(w)) for s, c, level, w in rows}


def _standing(words: Words) -> Words:
    """Words that have not been taken back."""
    return {pair: word for pair, word in words.items() if LABELS[word[1]] != "retracted"}


def _counted(words: Words) -> Words:
    return {pair: (START, *word[1:]) for pair, word in _standing(words).items()}


def _triplets_count(levels: Sequence[int]) -> int:
    """By the rule's sentence: each stronger outcome with up to K weaker ones."""
    weaker = [sum(other < level for other in levels) for level in levels]
    return sum(min(NEGATIVES_MAX, count) for count in weaker)


async def _tell(store: MemoryTripletStore, drafts: Sequence[OutcomeDraft]) -> None:
    sieve = check_drafts(drafts, START + datetime.timedelta(days=1))
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await report_outcomes(unit, drafts, sieve)


def _run(coroutine: Any) -> Any:
    """What a coroutine comes to that nothing holds up."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError


@cache
def _peopled() -> MemoryTripletStore:
    store = MemoryTripletStore()
    _run(store.create_domain(TENANT, SCHEMA))
    _run(_people(store))
    return store


async def _people(store: MemoryTripletStore) -> None:
    async with store.open_domain(TENANT, DOMAIN) as unit:
        await unit.save_profiles([(profile_of(user), [0.0]) for user in USERS])


def _fresh_store() -> MemoryTripletStore:
    """A domain with everybody and no word."""
    store = MemoryTripletStore()
    store._domains = copy_changeable(_peopled()._domains)
    return store

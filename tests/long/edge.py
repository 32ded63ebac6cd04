"""Keys, measured: what time tells of them, what chance makes of them, what guessing costs."""

import asyncio
import datetime
import math
import random
import statistics
import string
import time
from collections.abc import Sequence

from services.chassis.api_key import HashedKey, mint_api_key, parse_api_key
from services.chassis.auth import Authenticator, Grant
from services.chassis.clock import ManualClock
from services.chassis.errors import RefusedError
from services.gateway.core.api_key import ApiKey
from services.gateway.core.errors import KeyInvalidError
from services.gateway.core.resolve_api_key import resolve_api_key
from services.gateway.memory import MemoryKeyStore
from tests.long.record import Record

TIMED_CALLS = 100_000
T_MAX = 4.5
"""Of Welch's test: beyond it the two kinds of call are told apart (dudect's bound)."""
CROPPED_SHARE = 0.05
"""The slowest calls met something else of the machine."""
RANDOM_TEXTS = 1_000_000
GUESSES = 10_000
GUESSING_SECONDS = 1.0
START = datetime.datetime(2026, 5, 17, tzinfo=datetime.UTC)
_ALPHABET = string.ascii_letters + string.digits


class OneKeyStore(MemoryKeyStore):
    """Answers every question by the same steps: with its key, or with none."""

    def __init__(self, key: ApiKey) -> None:
        super().__init__()
        self._answers: tuple[ApiKey | None, ApiKey | None] = (None, key)
        self.is_known = False

    async def find_key(self, key_id: str) -> ApiKey | None:
        return self._answers[self.is_known]


def measure_edge(record: Record) -> bool:
    """Holds if time tells nothing, chance makes no key, and guesses cost few questions."""
    source = random.Random(record.seed)
    t = welch(*refusal_times(source, TIMED_CALLS))
    chances = sum(
        parse_api_key("trine_" + "".join(source.choices(_ALPHABET, k=45))) is not None
        for _ in range(RANDOM_TEXTS)
    )
    asked = asyncio.run(questions(GUESSES, GUESSING_SECONDS))
    record.table(
        ("what", "cases", "found", "allowed"),
        [
            ("unknown id against wrong secret, Welch's t", f"{TIMED_CALLS:,}", f"{t:.2f}", T_MAX),
            ("random texts that pass as keys", f"{RANDOM_TEXTS:,}", chances, 0),
            ("bad keys in a second, questions to the database", f"{GUESSES:,}", asked, 60),
        ],
    )
    return abs(t) < T_MAX and chances == 0 and asked <= 60


def refusal_times(source: random.Random, calls: int) -> tuple[list[float], list[float]]:
    """Nanoseconds of refusing unknown ids, and wrong secrets of a known one, in mixed order."""
    _, hashed = mint_api_key()
    key = ApiKey(
        key_id=hashed.key_id,
        secret_hash=hashed.secret_hash,
        tenant="acme",
        scopes=frozenset(),
        expire_time=None,
    )
    store, clock = OneKeyStore(key), ManualClock(START)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(calls):
        store.is_known = source.random() < 0.5
        secret_hash = source.randbytes(32)
        call = resolve_api_key(store, clock, key_id=key.key_id, secret_hash=secret_hash)
        began = time.perf_counter_ns()
        try:
            call.send(None)  # it waits for nothing: one step is the whole call
        except KeyInvalidError:
            times[store.is_known].append(time.perf_counter_ns() - began)
    return times


def welch(first: Sequence[float], second: Sequence[float]) -> float:
    """Welch's t of two samples without their slowest calls."""
    bound = sorted([*first, *second])[int((len(first) + len(second)) * (1 - CROPPED_SHARE))]
    kept = [[value for value in sample if value < bound] for sample in (first, second)]
    means = [statistics.fmean(sample) for sample in kept]
    variances = [statistics.variance(sample) / len(sample) for sample in kept]
    return (means[0] - means[1]) / math.sqrt(sum(variances))


async def questions(guesses: int, seconds: float) -> int:
    """How many questions so many bad keys from one address cost in so long."""
    asked, clock = 0, ManualClock(START)

    async def resolve(_key: HashedKey) -> Grant | None:
        nonlocal asked
        asked += 1
        return None

    authenticator = Authenticator(resolve, "mesh", clock)
    for _ in range(guesses):
        clock.advance(seconds / guesses)
        headers = {"authorization": f"Bearer {mint_api_key()[0]}", "x-forwarded-for": "192.0.2.1"}
        try:
            await authenticator.authenticate(headers, "match:read")
        except RefusedError:
            continue
        raise AssertionError("a bad key was let in")
    return asked

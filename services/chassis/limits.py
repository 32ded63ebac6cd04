"""How much anybody may ask for: calls a second, calls at once, and guesses at keys.

All of it is counted in the memory of one process, which stays bounded whoever calls. What is over a
limit is refused at once, with the time after which to try again: nothing waits in a queue that
nobody has promised to empty.
"""

import ipaddress
import math
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import grpc

from services.chassis.clock import Clock
from services.chassis.environment import ConfigurationError
from services.chassis.errors import PublicError, RefusedError

ENTRIES_MAX = 10_000
"""Callers that a kind of bucket remembers; who asked longest ago is forgotten first."""
BURST_SECONDS = 2.0
"""Calls of so many seconds may be made at once by who has been quiet."""
STREAMS_AT_ONCE_MAX = 1_000
OVERLOADED_SECONDS = 1.0
"""When to call again after there was no place."""
ANY_SCOPE = "*"

GUESSES_PER_SECOND = 5.0
GUESSES_BURST = 50
GUESSES_PER_SECOND_ALTOGETHER = 100.0
_NETWORK_BITS = 64
"""Of an IPv6 address: who has one has the whole network."""


class TokenBuckets:
    """A bucket of tokens per key, refilled evenly. A key that is not remembered has a full one."""

    def __init__(self, per_second: float, burst: float, clock: Clock) -> None:
        self._seconds_per_token = 1 / per_second
        self._seconds_max = burst / per_second
        self._clock = clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, key: str) -> float:
        """Takes a token and returns 0, or takes none and returns the seconds until there is one."""
        now = self._clock.monotonic()
        full_at = max(self._full_at.get(key, now), now) + self._seconds_per_token
        missing = full_at - now - self._seconds_max
        if missing > 0:
            return missing
        self._full_at[key] = full_at
        self._full_at.move_to_end(key)
        if len(self._full_at) > ENTRIES_MAX:
            self._full_at.popitem(last=False)
        return 0.0

    def give_back(self, key: str) -> None:
        """Puts a token back."""
        if key in self._full_at:
            self._full_at[key] -= self._seconds_per_token

    def __len__(self) -> int:
        """How many keys are remembered."""
        return len(self._full_at)


class Places:
    """So many things may go on at once, and half as many for one tenant."""

    def __init__(self, places_max: int) -> None:
        self._left = places_max
        self._share_max = max(1, places_max // 2)
        self._shares: Counter[str] = Counter()

    @contextmanager
    def taken(self) -> Iterator[None]:
        """Holds a place for the length of a block.

        Raises:
            RefusedError: there is none.
        """
        if self._left <= 0:
            message = "The service has as much to do as it can. Call again after a while."
            raise _exhausted("OVERLOADED", message, OVERLOADED_SECONDS)
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1

    @contextmanager
    def shared(self, tenant: str) -> Iterator[None]:
        """Counts a place that is held as one of a tenant's, for the length of a block.

        Raises:
            RefusedError: the tenant has its share.
        """
        if self._shares.get(tenant, 0) >= self._share_max:
            message = "These are as many calls at once as one tenant may make. Call again later."
            raise _exhausted("OVERLOADED", message, OVERLOADED_SECONDS)
        self._shares[tenant] += 1
        try:
            yield
        finally:
            self._shares[tenant] -= 1
            if not self._shares[tenant]:
                del self._shares[tenant]


class CallLimits:
    """What the calls from outside may take of one service."""

    def __init__(self, rates: str, calls_at_once: int, clock: Clock) -> None:
        """Takes calls per second and tenant as `read_rates` reads them.

        Raises:
            ConfigurationError: the rates are malformed.
        """
        self._buckets = {
            scope: TokenBuckets(rate, max(1.0, rate * BURST_SECONDS), clock)
            for scope, rate in read_rates(rates).items()
        }
        self.calls = Places(calls_at_once)
        self.streams = Places(STREAMS_AT_ONCE_MAX)

    def spend(self, tenant: str, scope: str) -> None:
        """Counts a call.

        Raises:
            RefusedError: the tenant makes too many that need this scope.
        """
        buckets = self._buckets.get(scope, self._buckets[ANY_SCOPE])
        wait = buckets.take(f"{tenant} {scope}")
        if wait > 0:
            message = f"These are too many calls that need {scope}. Call again after {wait:.1f} s."
            raise _exhausted("RATE_LIMIT_EXCEEDED", message, wait)


def read_rates(text: str) -> Mapping[str, float]:
    """Calls per second by scope: "*=1000 runs:write=10"; "*" stands for those not named.

    Raises:
        ConfigurationError: it is malformed, or says nothing of "*".
    """
    pairs = (part.partition("=") for part in text.split())
    try:
        rates = {scope: float(rate) for scope, _, rate in pairs}
    except ValueError:
        rates = {}
    if ANY_SCOPE not in rates or not all(0 < rate < math.inf for rate in rates.values()):
        raise ConfigurationError(
            'TRINE_RATES must be calls per second by scope, such as "*=1000 runs:write=10"'
        )
    return rates


class Guesses:
    """How often a key that is not known to be good may be asked about.

    Each question may cost the database one. They are counted by whence they come, by the key's
    public id, and altogether.
    """

    def __init__(self, clock: Clock) -> None:
        rate = GUESSES_PER_SECOND
        every = GUESSES_PER_SECOND_ALTOGETHER
        self._by_address = TokenBuckets(rate, GUESSES_BURST, clock)
        self._by_key_id = TokenBuckets(rate, GUESSES_BURST, clock)
        self._altogether = TokenBuckets(every, every * BURST_SECONDS, clock)

    def spend(self, address: str, key_id: str) -> None:
        """Counts a question.

        Raises:
            RefusedError: there were too many.
        """
        pairs = self._pairs(address, key_id)
        for place, (buckets, key) in enumerate(pairs):
            wait = buckets.take(key)
            if wait > 0:
                for taken, name in pairs[:place]:
                    taken.give_back(name)
                message = "Too many API keys have been tried that are not good. Try again later."
                raise _exhausted("TOO_MANY_GUESSES", message, wait)

    def give_back(self, address: str, key_id: str) -> None:
        """It was no guess: the key is good, or nobody could tell."""
        for buckets, key in self._pairs(address, key_id):
            buckets.give_back(key)

    def _pairs(self, address: str, key_id: str) -> list[tuple[TokenBuckets, str]]:
        return [(self._by_address, address), (self._by_key_id, key_id), (self._altogether, "")]


def calling_network(forwarded_for: str) -> str:
    """Whence a call comes: the address that the edge has added, for IPv6 its network.

    What stands before it is the caller's own word. A call from inside names nothing.
    """
    text = forwarded_for.rpartition(",")[2].strip()
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((int(address), _NETWORK_BITS), strict=False))
    return str(address)


def _exhausted(reason: str, message: str, seconds: float) -> RefusedError:
    code = grpc.StatusCode.RESOURCE_EXHAUSTED
    return RefusedError(PublicError(code, reason, message, retry_seconds=seconds))

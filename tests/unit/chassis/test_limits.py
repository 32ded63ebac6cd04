"""Limits: what a caller may ask for, when it may ask again, and how little is remembered."""

import datetime
from contextlib import suppress

import pytest

from services.chassis import limits
from services.chassis.clock import ManualClock
from services.chassis.environment import ConfigurationError
from services.chassis.errors import RefusedError
from services.chassis.limits import (
    BURST_SECONDS,
    CallLimits,
    Places,
    TokenBuckets,
    calling_network,
    read_rates,
)

START = datetime.datetime(2026, 5, 17, tzinfo=datetime.UTC)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(START)


def taken(buckets: TokenBuckets, key: str, times: int) -> int:
    """How many of so many tokens there are."""
    return sum(buckets.take(key) == 0 for _ in range(times))


def test_a_bucket_gives_its_burst_at_once_and_then_as_it_fills(clock: ManualClock) -> None:
    buckets = TokenBuckets(per_second=4, burst=10, clock=clock)
    assert taken(buckets, "a", 100) == 10
    clock.advance(1)
    assert taken(buckets, "a", 100) == 4
    clock.advance(3_600)
    assert taken(buckets, "a", 100) == 10


def test_the_time_to_wait_is_the_time_until_there_is_a_token(clock: ManualClock) -> None:
    buckets = TokenBuckets(per_second=0.5, burst=1, clock=clock)
    assert buckets.take("a") == 0
    clock.advance(0.5)
    wait = buckets.take("a")
    assert wait == pytest.approx(1.5)
    clock.advance(wait)
    assert buckets.take("a") == 0


def test_a_caller_takes_nothing_from_another(clock: ManualClock) -> None:
    buckets = TokenBuckets(per_second=1, burst=5, clock=clock)
    assert taken(buckets, "a", 50) == 5
    assert taken(buckets, "b", 50) == 5


def test_a_token_can_be_given_back(clock: ManualClock) -> None:
    buckets = TokenBuckets(per_second=1, burst=5, clock=clock)
    for _ in range(50):
        assert buckets.take("a") == 0
        buckets.give_back("a")


def test_callers_are_forgotten_not_collected(
    clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ENTRIES_MAX", 100)
    buckets = TokenBuckets(per_second=1, burst=5, clock=clock)
    for number in range(10_000):
        buckets.take(f"caller-{number}")
    assert len(buckets) == 100


def test_calls_are_counted_by_tenant_and_scope(clock: ManualClock) -> None:
    calls = CallLimits("*=100 runs:write=2", 10, clock)
    allowed = int(2 * BURST_SECONDS)
    for _ in range(allowed):
        calls.spend("acme", "runs:write")
    with pytest.raises(RefusedError) as caught:
        calls.spend("acme", "runs:write")
    public = caught.value.public
    assert public.reason == "RATE_LIMIT_EXCEEDED"
    assert public.retry_seconds == pytest.approx(0.5)
    assert public.retry_after == 1
    calls.spend("acme", "runs:read")
    calls.spend("other", "runs:write")


def test_scopes_that_are_not_named_have_a_bucket_each(clock: ManualClock) -> None:
    calls = CallLimits("*=1", 10, clock)
    for scope in ("runs:read", "runs:write"):
        for _ in range(int(BURST_SECONDS)):
            calls.spend("acme", scope)
        with pytest.raises(RefusedError):
            calls.spend("acme", scope)


@pytest.mark.parametrize("text", ["", "*", "*=", "*=x", "*=0", "*=-1", "*=inf", "runs:read=1"])
def test_rates_that_make_no_sense_are_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="TRINE_RATES"):
        read_rates(text)


def test_places_are_few_and_come_back_whatever_happens() -> None:
    places = Places(1)
    with places.taken(), pytest.raises(RefusedError) as caught, places.taken():
        pass
    assert caught.value.public.reason == "OVERLOADED"
    assert caught.value.public.retry_after == 1
    for _ in range(3):
        with suppress(KeyError), places.taken():
            raise KeyError


@pytest.mark.parametrize(
    ("forwarded", "network"),
    [
        ("", ""),
        ("nonsense", ""),
        ("192.0.2.7", "192.0.2.7"),
        ("10.0.0.1, 192.0.2.7", "192.0.2.7"),
        ("192.0.2.7, nonsense", ""),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", "2001:db8:1:2::/64"),
    ],
)
def test_the_edges_word_on_whence_a_call_comes_is_the_last(forwarded: str, network: str) -> None:
    assert calling_network(forwarded) == network

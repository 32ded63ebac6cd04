"""Authentication: who is admitted, for how long an answer counts, and what happens without one."""

import asyncio
import datetime

import pytest
from grpc import StatusCode

from services.chassis import auth
from services.chassis.api_key import HashedKey, mint_api_key
from services.chassis.auth import (
    FRESH_SECONDS,
    MESH,
    VALID_SECONDS,
    AccessDeniedError,
    Authenticator,
    Caller,
    Grant,
    required_scope,
    set_current_caller,
)
from services.chassis.author import (
    REQUEST_ID_CHARACTERS_MAX,
    THE_MESH,
    Author,
    current_author,
)
from services.chassis.clock import ManualClock
from services.chassis.errors import RefusedError
from services.chassis.limits import GUESSES_BURST, GUESSES_PER_SECOND

START = datetime.datetime(2026, 5, 17, tzinfo=datetime.UTC)
SCOPES = frozenset({"match:read"})


class Authority:
    """Knows one key; can be taken away, and counts how often it is asked."""

    def __init__(self) -> None:
        self.text, self.key = mint_api_key()
        self.grant: Grant | None = Grant("acme", SCOPES, None)
        self.reachable = True
        self.asked = 0
        self.clock = ManualClock(START)
        self.authenticator = Authenticator(self.resolve, "mesh-secret", self.clock)

    async def resolve(self, key: HashedKey) -> Grant | None:
        self.asked += 1
        await asyncio.sleep(0)
        if not self.reachable:
            raise ConnectionError
        return self.grant if key == self.key else None

    async def call(
        self, text: str | None = None, scope: str = "match:read", address: str = "192.0.2.1"
    ) -> Caller:
        """Calls an RPC with a key."""
        metadata = {
            "authorization": f"Bearer {text or self.text}",
            "x-forwarded-for": f"its own word, {address}",
        }
        return await self.authenticator.authenticate(metadata, scope)

    async def denial(self, text: str | None = None, address: str = "192.0.2.1") -> str:
        """The reason for which a call is denied."""
        with pytest.raises(RefusedError) as caught:
            await self.call(text, address=address)
        return caught.value.public.reason


async def test_a_good_key_names_its_tenant() -> None:
    assert await Authority().call() == Caller("acme", SCOPES)


async def test_the_kind_of_authorization_is_read_in_any_case() -> None:
    authority = Authority()
    metadata = {"authorization": f"bearer {authority.text}"}
    caller = await authority.authenticator.authenticate(metadata, "match:read")
    assert caller.tenant == "acme"


async def test_a_change_is_on_the_account_of_the_key_whatever_the_caller_says() -> None:
    authority = Authority()
    metadata = {
        "authorization": f"Bearer {authority.text}",
        "x-request-id": "r" * 100,
        "trine-author": "key of-another",
    }
    caller = await authority.authenticator.authenticate(metadata, "match:read")
    assert caller.author == (f"key {authority.key.key_id}", "r" * REQUEST_ID_CHARACTERS_MAX)
    assert current_author() == THE_MESH  # until it is set for the call
    set_current_caller(caller)
    assert current_author() == caller.author


async def test_the_mesh_says_on_whose_account_it_asks() -> None:
    authority = Authority()
    told = {"trine-mesh-token": "mesh-secret"}
    assert (await authority.authenticator.authenticate(told, "")).author == THE_MESH
    author = Author("key k1", "r1")
    told |= dict(author.as_metadata())
    assert (await authority.authenticator.authenticate(told, "")).author == author


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer ", "Basic abc"])
async def test_no_key_is_unauthenticated(header: str | None) -> None:
    metadata = {} if header is None else {"authorization": header}
    with pytest.raises(AccessDeniedError) as caught:
        await Authority().authenticator.authenticate(metadata, "match:read")
    assert caught.value.public.code is StatusCode.UNAUTHENTICATED
    assert caught.value.public.reason == "API_KEY_MISSING"


async def test_a_malformed_key_is_refused_without_asking() -> None:
    authority = Authority()
    assert await authority.denial("sk-nonsense") == "API_KEY_INVALID"
    assert authority.asked == 0


async def test_an_unknown_key_is_refused() -> None:
    other, _ = mint_api_key()
    assert await Authority().denial(other) == "API_KEY_INVALID"


async def test_a_missing_scope_is_named() -> None:
    authority = Authority()
    with pytest.raises(AccessDeniedError) as caught:
        await authority.call(scope="runs:write")
    assert caught.value.public.code is StatusCode.PERMISSION_DENIED
    assert caught.value.public.metadata == {"scope": "runs:write"}


async def test_a_fresh_answer_is_used_without_asking() -> None:
    authority = Authority()
    for _ in range(3):
        await authority.call()
        authority.clock.advance(FRESH_SECONDS / 4)
    assert authority.asked == 1


async def test_an_ageing_answer_is_used_and_asked_for_behind_the_callers_back() -> None:
    authority = Authority()
    await authority.call()
    authority.clock.advance(FRESH_SECONDS + 0.1)
    authority.grant = None
    assert (await authority.call()).tenant == "acme"  # nobody waits
    await asyncio.sleep(0.01)
    assert authority.asked == 2
    assert await authority.denial() == "API_KEY_INVALID"  # but the next caller knows


async def test_a_revoked_key_is_dead_within_five_seconds_whoever_calls_when() -> None:
    authority = Authority()
    await authority.call()
    authority.grant = None
    authority.clock.advance(VALID_SECONDS)
    assert await authority.denial() == "API_KEY_INVALID"


async def test_without_the_authority_an_answer_counts_for_five_seconds_and_no_longer() -> None:
    authority = Authority()
    await authority.call()
    authority.reachable = False
    authority.clock.advance(VALID_SECONDS - 0.1)
    assert (await authority.call()).tenant == "acme"
    await asyncio.sleep(0.01)
    authority.clock.advance(0.2)
    assert await authority.denial() == "AUTHORITY_UNAVAILABLE"
    authority.reachable = True
    assert (await authority.call()).tenant == "acme"


async def test_many_callers_ask_once() -> None:
    authority = Authority()
    await asyncio.gather(*(authority.call() for _ in range(50)))
    assert authority.asked == 1


async def test_an_expired_key_is_refused() -> None:
    authority = Authority()
    authority.grant = Grant("acme", SCOPES, START + datetime.timedelta(seconds=1))
    await authority.call()
    authority.clock.advance(1.5)
    assert await authority.denial() == "API_KEY_INVALID"


async def test_guesses_from_one_address_are_bounded_before_anybody_is_asked() -> None:
    authority = Authority()
    for _ in range(10 * GUESSES_BURST):
        await authority.denial(mint_api_key()[0])
    assert authority.asked == GUESSES_BURST
    assert await authority.denial(mint_api_key()[0]) == "TOO_MANY_GUESSES"
    authority.clock.advance(10)
    for _ in range(10 * GUESSES_BURST):
        await authority.denial(mint_api_key()[0])
    assert authority.asked == GUESSES_BURST + 10 * GUESSES_PER_SECOND


async def test_guesses_at_one_key_are_bounded_from_wherever_they_come() -> None:
    authority = Authority()
    key_id = authority.key.key_id
    for number in range(2 * GUESSES_BURST):
        await authority.denial(mint_api_key(key_id)[0], address=f"192.0.2.{number}")
    assert authority.asked == GUESSES_BURST


async def test_who_guesses_locks_nobody_out_whose_key_is_known() -> None:
    authority = Authority()
    await authority.call()
    for _ in range(2 * GUESSES_BURST):
        await authority.denial(mint_api_key(authority.key.key_id)[0])
    authority.clock.advance(VALID_SECONDS)
    assert (await authority.call()).tenant == "acme"


async def test_good_keys_that_come_for_the_first_time_are_no_guesses() -> None:
    authority = Authority()
    for _ in range(2 * GUESSES_BURST):
        authority.text, authority.key = mint_api_key()
        assert (await authority.call()).tenant == "acme"


async def test_bad_keys_push_no_good_one_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CACHE_ENTRIES_MAX", 3)
    authority = Authority()
    await authority.call()
    for _ in range(10):
        await authority.denial(mint_api_key()[0])
    asked = authority.asked
    await authority.call()
    assert authority.asked == asked


async def test_an_internal_rpc_admits_the_mesh_alone() -> None:
    authority = Authority()
    token = {"trine-mesh-token": "mesh-secret"}
    assert await authority.authenticator.authenticate(token, "") == MESH
    wrong = {"trine-mesh-token": "guess", "authorization": f"Bearer {authority.text}"}
    with pytest.raises(AccessDeniedError) as caught:
        await authority.authenticator.authenticate(wrong, "")
    assert caught.value.public.reason == "INTERNAL_RPC"


async def test_the_meshs_token_opens_no_public_rpc() -> None:
    token = {"trine-mesh-token": "mesh-secret"}
    with pytest.raises(AccessDeniedError):
        await Authority().authenticator.authenticate(token, "match:read")


def test_scopes_are_read_from_the_protos() -> None:
    import trine.scheduler.v1.lease_service_pb2  # noqa: PLC0415  # registers the service
    import trine.serving.v1.match_service_pb2  # noqa: F401, PLC0415

    assert required_scope("/trine.serving.v1.MatchService/FindMatches") == "match:read"
    assert required_scope("/trine.scheduler.v1.LeaseService/LeaseRun") == ""

"""What every store of webhooks does, and how deliveries go by way of it."""

import datetime
import json
from collections.abc import AsyncIterator, Sequence

import pytest

from services.chassis.clock import ManualClock
from services.gateway.core.deliver_events import HELD, announce, deliver_due
from services.gateway.core.errors import (
    DeliveryNotFoundError,
    EndpointNotFoundError,
    FieldInvalidError,
    QuotaExceededError,
)
from services.gateway.core.manage_endpoints import (
    create_endpoint,
    find_endpoint,
    rotate_secret,
    update_endpoint,
)
from services.gateway.core.ports import WebhookStore
from services.gateway.core.webhook import (
    DELIVERIES_KEPT,
    ENDPOINTS_MAX,
    OLD_SECRET_KEPT,
    PAUSES_SECONDS,
    Attempt,
    Delivery,
    DeliveryState,
    Endpoint,
)
from services.gateway.memory import MemoryWebhookStore
from services.gateway.postgres import MIGRATIONS, PostgresWebhookStore
from tests.support.infrastructure import Servers

NOW = datetime.datetime(2026, 5, 17, 12, tzinfo=datetime.UTC)
SUCCEEDED, FAILED = "fine_tuning.job.succeeded", "fine_tuning.job.failed"


@pytest.fixture(params=["memory", "postgres"])
async def store(request: pytest.FixtureRequest, servers: Servers) -> AsyncIterator[WebhookStore]:
    if request.param == "memory":
        yield MemoryWebhookStore()
        return
    async with (
        servers.schema() as schema,
        servers.migrated(schema, MIGRATIONS) as database,
    ):
        yield PostgresWebhookStore(database)


class FakeSender:
    """Answers what it is told to, and keeps what it was asked to send."""

    def __init__(self) -> None:
        self.answers: list[Attempt] = []
        self.sent: list[tuple[str, str, str]] = []
        self.secrets: list[list[str]] = []

    def check_url(self, url: str) -> None:
        """Every URL is good."""

    async def send(
        self,
        url: str,
        secrets: Sequence[str],
        *,
        message_id: str,
        body: str,
        now: datetime.datetime,
    ) -> Attempt:
        """Takes the next answer; 200 when there is none."""
        self.sent.append((url, message_id, body))
        self.secrets.append(list(secrets))
        return self.answers.pop(0) if self.answers else Attempt(200)


class Post:
    """A store, a sender and a clock."""

    def __init__(self, store: WebhookStore) -> None:
        self.store = store
        self.sender = FakeSender()
        self.clock = ManualClock(NOW)

    async def endpoint(self, tenant: str = "acme", kinds: Sequence[str] = (SUCCEEDED,)) -> Endpoint:
        """Adds an endpoint, a millisecond after the one before."""
        self.clock.advance(0.001)
        return await create_endpoint(
            self.store,
            self.clock,
            tenant=tenant,
            name="n",
            url=f"https://{tenant}.example/hook",
            event_types=kinds,
        )

    async def announce(self, job: str = "ftjob-1", kind: str = SUCCEEDED) -> None:
        """Tells of a job of acme."""
        await announce(
            self.store, tenant="acme", event_type=kind, subject_id=job, now=self.clock.now()
        )

    async def deliver(self) -> None:
        """Sends what is due."""
        await deliver_due(self.store, self.sender, self.clock)

    async def only(self, endpoint: Endpoint) -> Delivery:
        """The endpoint's one delivery."""
        (found,) = await self.store.list_deliveries(endpoint, state="", after="", limit=9)
        return found


@pytest.fixture
def post(store: WebhookStore) -> Post:
    return Post(store)


async def test_an_endpoint_is_read_as_it_was_made_and_by_its_tenant_alone(post: Post) -> None:
    made = await post.endpoint(kinds=[FAILED, SUCCEEDED, FAILED])

    assert await find_endpoint(post.store, "acme", made.endpoint_id) == made
    assert made.event_types == (SUCCEEDED, FAILED)
    with pytest.raises(EndpointNotFoundError):
        await find_endpoint(post.store, "globex", made.endpoint_id)
    assert not await post.store.delete_endpoint("globex", made.endpoint_id)


async def test_endpoints_are_listed_newest_first_and_go_on_after_one(post: Post) -> None:
    made = [await post.endpoint() for _ in range(3)]
    await post.endpoint("globex")

    first = await post.store.list_endpoints("acme", after="", limit=2)
    rest = await post.store.list_endpoints("acme", after=first[-1].endpoint_id, limit=2)

    assert [*first, *rest] == made[::-1]


async def test_a_tenant_has_so_many_endpoints(post: Post) -> None:
    for _ in range(ENDPOINTS_MAX):
        await post.endpoint()

    with pytest.raises(QuotaExceededError):
        await post.endpoint()
    await post.endpoint("globex")


async def test_an_update_changes_what_is_given_and_an_empty_one_nothing(post: Post) -> None:
    made = await post.endpoint()
    post.clock.advance(60)

    async def update(**given: str) -> Endpoint:
        return await update_endpoint(
            post.store,
            post.clock,
            tenant="acme",
            endpoint_id=made.endpoint_id,
            name=given.get("name"),
            url=given.get("url"),
            event_types=None,
        )

    assert await update() == made
    changed = await update(name="other")
    assert (changed.name, changed.url) == ("other", made.url)
    assert changed.update_time == post.clock.now()
    assert await find_endpoint(post.store, "acme", made.endpoint_id) == changed


@pytest.mark.parametrize("kinds", [[], ["fine_tuning.job.paused"]])
async def test_unknown_kinds_of_events_are_refused(post: Post, kinds: list[str]) -> None:
    with pytest.raises(FieldInvalidError, match="event_types"):
        await post.endpoint(kinds=kinds)


async def test_an_event_goes_once_to_each_endpoint_of_the_tenant_that_wants_it(post: Post) -> None:
    wanting = await post.endpoint()
    await post.endpoint(kinds=[FAILED])
    await post.endpoint("globex")

    await post.announce()
    await post.announce()
    await post.deliver()
    await post.deliver()

    ((url, message_id, body),) = post.sender.sent
    assert url == wanting.url
    assert json.loads(body)["id"] == message_id
    assert json.loads(body)["data"] == {"id": "ftjob-1"}
    assert (await post.only(wanting)).state is DeliveryState.DELIVERED


async def test_what_fails_is_tried_again_under_the_same_id_until_it_is_given_up(post: Post) -> None:
    endpoint = await post.endpoint()
    post.sender.answers = [Attempt(500)] * 99
    await post.announce()

    await post.deliver()
    await post.deliver()
    assert len(post.sender.sent) == 1, "it waits"
    for seconds in PAUSES_SECONDS:
        post.clock.advance(seconds * 1.2)
        await post.deliver()

    delivery = await post.only(endpoint)
    assert (delivery.state, delivery.attempts_count) == (DeliveryState.FAILED, 10)
    assert (delivery.status_code, delivery.next_time) == (500, None)
    assert len({message_id for _, message_id, _ in post.sender.sent}) == 1


async def test_a_receiver_may_ask_for_more_time(post: Post) -> None:
    endpoint = await post.endpoint()
    post.sender.answers = [Attempt(429, retry_after_seconds=600)]
    await post.announce()
    await post.deliver()

    delivery = await post.only(endpoint)
    assert delivery.next_time == post.clock.now() + datetime.timedelta(seconds=600)


@pytest.mark.parametrize("attempt", [Attempt(302), Attempt(404), Attempt(None, "no")])
async def test_nothing_but_2xx_is_success(post: Post, attempt: Attempt) -> None:
    endpoint = await post.endpoint()
    post.sender.answers = [attempt]
    await post.announce()
    await post.deliver()

    delivery = await post.only(endpoint)
    assert delivery.state is DeliveryState.PENDING
    assert (delivery.status_code, delivery.failure) == (attempt.status_code, attempt.failure)


async def test_an_endpoint_that_is_gone_hears_nothing_until_it_is_updated(post: Post) -> None:
    endpoint = await post.endpoint()
    post.sender.answers = [Attempt(410)]
    await post.announce()
    await post.deliver()
    assert (await post.only(endpoint)).state is DeliveryState.FAILED

    await post.announce("ftjob-2")
    await post.deliver()
    assert len(post.sender.sent) == 1

    await update_endpoint(
        post.store,
        post.clock,
        tenant="acme",
        endpoint_id=endpoint.endpoint_id,
        name=None,
        url="https://acme.example/new",
        event_types=None,
    )
    await post.announce("ftjob-3")
    await post.deliver()
    assert post.sender.sent[-1][0] == "https://acme.example/new"


async def test_a_delivery_that_somebody_holds_is_not_sent_by_another(post: Post) -> None:
    endpoint = await post.endpoint()
    await post.announce()

    ((held, _),) = await post.store.hold_due(post.clock.now(), 9, HELD)
    assert await post.store.hold_due(post.clock.now(), 9, HELD) == []
    post.clock.advance(HELD.total_seconds())
    ((again, _),) = await post.store.hold_due(post.clock.now(), 9, HELD)
    late = Delivery(
        event_id=held.event_id,
        endpoint_id=held.endpoint_id,
        event_type=held.event_type,
        body=held.body,
        state=DeliveryState.DELIVERED,
        create_time=held.create_time,
        next_time=None,
    )
    await post.store.settle_delivery(late, held.next_time, disable=False)

    assert await post.only(endpoint) == again, "who held it first has no say any more"


async def test_a_rotated_secret_signs_beside_the_old_one_for_a_day_if_asked(post: Post) -> None:
    endpoint = await post.endpoint()
    rotated = await rotate_secret(
        post.store, post.clock, tenant="acme", endpoint_id=endpoint.endpoint_id, keep_old=True
    )
    await post.announce()
    await post.deliver()
    post.clock.advance(OLD_SECRET_KEPT.total_seconds())
    await post.announce("ftjob-2")
    await post.deliver()

    assert rotated.secret != endpoint.secret
    assert post.sender.secrets == [[rotated.secret, endpoint.secret], [rotated.secret]]


async def test_a_delivery_can_be_replayed_and_is_forgotten_in_the_end(post: Post) -> None:
    endpoint = await post.endpoint()
    await post.announce()
    await post.deliver()
    event_id = (await post.only(endpoint)).event_id

    assert await post.store.replay_delivery(endpoint, "evt_no", NOW) is None
    await post.store.replay_delivery(endpoint, event_id, post.clock.now())
    await post.deliver()
    assert len(post.sender.sent) == 2

    post.clock.advance(DELIVERIES_KEPT.total_seconds() + 1)
    await post.deliver()
    assert await post.store.list_deliveries(endpoint, state="", after="", limit=9) == []


async def test_tenants_take_turns(post: Post) -> None:
    for tenant in ("acme", "globex"):
        await post.endpoint(tenant, kinds=[FAILED])
    for number in range(4):
        await post.store.add_deliveries("acme", f"evt_{number}", FAILED, "{}", post.clock.now())
        post.clock.advance(1)
    for number in (8, 9):
        await post.store.add_deliveries("globex", f"evt_{number}", FAILED, "{}", post.clock.now())
        post.clock.advance(1)

    async def held(limit: int) -> set[str]:
        return {one.event_id for one, _ in await post.store.hold_due(post.clock.now(), limit, HELD)}

    assert await held(3) == {"evt_0", "evt_8", "evt_1"}
    assert await held(2) == {"evt_2", "evt_9"}
    assert await held(9) == {"evt_3"}
    assert await held(9) == set()


async def test_deliveries_are_listed_newest_first_and_go_on_after_one(post: Post) -> None:
    endpoint, other = await post.endpoint(kinds=[FAILED]), await post.endpoint("globex")
    for number in range(3):
        event_id = f"evt_{2 - number}"  # ids do not sort by time
        at = post.clock.now() + datetime.timedelta(seconds=number // 2)
        await post.store.add_deliveries("acme", event_id, FAILED, "{}", at)

    async def listed(after: str, limit: int, state: str = "") -> list[str]:
        found = await post.store.list_deliveries(endpoint, state=state, after=after, limit=limit)
        return [each.event_id for each in found]

    assert await listed("", 2) == ["evt_0", "evt_2"]
    assert await listed("evt_2", 2) == ["evt_1"]
    assert await listed("evt_0", 9, "pending") == ["evt_2", "evt_1"]
    assert await listed("evt_1", 9) == await listed("", 9, "failed") == []
    for stranger in ("evt_3", "x"):
        with pytest.raises(DeliveryNotFoundError):
            await listed(stranger, 9)
    with pytest.raises(DeliveryNotFoundError):
        await post.store.list_deliveries(other, state="", after="evt_0", limit=9)


async def test_a_deleted_endpoint_takes_its_deliveries_along(post: Post) -> None:
    endpoint = await post.endpoint()
    await post.announce()

    assert await post.store.delete_endpoint("acme", endpoint.endpoint_id)
    await post.deliver()
    assert post.sender.sent == []

"""Webhooks over real HTTP: what the official client accepts, and where nobody may point us."""

import datetime
import ipaddress
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from openai import InvalidWebhookSignatureError, OpenAI
from openai.types.webhooks import FineTuningJobSucceededWebhookEvent

from services.chassis.environment import ConfigurationError
from services.gateway.core.deliver_events import event_body
from services.gateway.core.errors import FieldInvalidError
from services.gateway.sender import may_reach, open_sender, read_networks

LOOPBACK = "127.0.0.0/8"
SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
OLD_SECRET = "whsec_" + "b2xkLW9sZC1vbGQtb2xkLW9sZC1vbGQtb2xk"

REFUSED = [
    "0.0.0.0",
    "10.0.0.1",
    "100.64.0.1",
    "127.0.0.1",
    "169.254.169.254",
    "172.16.0.1",
    "192.0.0.8",
    "192.168.1.1",
    "198.18.0.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::7f00:1",
    "64:ff9b::a9fe:a9fe",
    "2002:7f00:1::",
    "2002:a9fe:a9fe::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "ff02::1",
]


@pytest.mark.parametrize("address", REFUSED)
def test_an_address_that_is_not_public_is_not_reached(address: str) -> None:
    assert not may_reach(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "64:ff9b::101:101"])
def test_public_addresses_are_reached(address: str) -> None:
    assert may_reach(ipaddress.ip_address(address), ())


def test_the_operator_may_allow_a_network() -> None:
    with pytest.raises(ConfigurationError, match="TRINE_WEBHOOK_NETWORKS"):
        read_networks("fd00::/8, 10.0.0.1/8")
    allowed = read_networks(f"{LOOPBACK}, fd00::/8")
    assert may_reach(ipaddress.ip_address("127.0.0.1"), allowed)
    assert may_reach(ipaddress.ip_address("fd00::1"), allowed)
    assert not may_reach(ipaddress.ip_address("10.0.0.1"), allowed)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.com/hook",
        "http://example.com/hook",
        "ftp://example.com/",
        "file:///etc/passwd",
        "https://user:password@example.com/",
        "https://example.com/#part",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://169.254.169.254/latest/meta-data/",
        "https://exa\nmple.com/",
        "https://example.com:99999/",
        "https://example.com/" + "x" * 2_048,
    ],
)
async def test_a_url_that_will_never_be_sent_to_is_refused(url: str) -> None:
    async with open_sender("") as sender:
        with pytest.raises(FieldInvalidError, match="url"):
            sender.check_url(url)


async def test_a_public_https_url_is_fine_and_http_inside_an_allowed_network() -> None:
    async with open_sender(LOOPBACK) as sender:
        sender.check_url("https://hooks.example.com:8443/trine?x=1")
        sender.check_url("http://127.0.0.1:8080/")


class Receiver:
    """An HTTP server that keeps what it is sent."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.headers: dict[str, str] = {}
        self.heard: list[tuple[bytes, dict[str, str]]] = []

    async def hear(self, request: web.Request) -> web.Response:
        """Keeps a call."""
        self.heard.append((await request.read(), dict(request.headers)))
        return web.Response(status=self.status, headers=self.headers)


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver, application = Receiver(), web.Application()
    application.router.add_post("/hook", receiver.hear)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield receiver
    finally:
        await runner.cleanup()


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


async def test_the_official_client_accepts_a_delivery_by_either_secret_and_no_other() -> None:
    body = event_body("evt_1", "fine_tuning.job.succeeded", "ftjob-1", now())
    async with receiving() as receiver, open_sender(LOOPBACK) as sender:
        attempt = await sender.send(
            receiver.url, [SECRET, OLD_SECRET], message_id="evt_1", body=body, now=now()
        )
    assert attempt.succeeded
    ((content, headers),) = receiver.heard
    client = OpenAI(api_key="k")
    for secret in (SECRET, OLD_SECRET):
        event = client.webhooks.unwrap(content, headers, secret=secret)
        assert isinstance(event, FineTuningJobSucceededWebhookEvent)
        assert event.data.id == "ftjob-1"
    with pytest.raises(InvalidWebhookSignatureError):
        client.webhooks.unwrap(content + b" ", headers, secret=SECRET)


async def test_a_redirect_is_not_followed_and_retry_after_is_read() -> None:
    async with receiving() as receiver, open_sender(LOOPBACK) as sender:
        receiver.status, receiver.headers = 307, {"location": receiver.url}
        redirected = await sender.send(receiver.url, [SECRET], message_id="e", body="{}", now=now())
        receiver.status, receiver.headers = 429, {"retry-after": "90"}
        limited = await sender.send(receiver.url, [SECRET], message_id="e", body="{}", now=now())

    assert not redirected.succeeded
    assert len(receiver.heard) == 2
    assert (limited.status_code, limited.retry_after_seconds) == (429, 90)


async def test_a_name_that_resolves_to_an_inner_address_is_not_connected_to() -> None:
    async with receiving() as receiver, open_sender("") as sender:
        port = receiver.url.split(":")[2].split("/")[0]
        for host in ("localhost", "127.1", "2130706433", "0x7f000001"):
            url = f"https://{host}:{port}/hook"
            attempt = await sender.send(url, [SECRET], message_id="e", body="{}", now=now())
            assert attempt.status_code is None, host
            if host == "localhost":  # a number in place of a name is no host to the HTTP library
                assert attempt.failure == "its address may not be reached"
    assert receiver.heard == []


async def test_nobody_there_is_told_in_a_few_words() -> None:
    async with open_sender(LOOPBACK) as sender:
        url = "http://127.0.0.1:9/"
        attempt = await sender.send(url, [SECRET], message_id="e", body="{}", now=now())
    assert (attempt.status_code, attempt.failure) == (None, "it cannot be connected to")

"""Where a stranger's webhook may not point: two hundred spellings of the inside, and no connect.

And receivers that mean no good: none of them holds a delivery for longer than its time.
"""

import asyncio
import datetime
import ipaddress
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from aiohttp.abc import ResolveResult

from services.gateway import sender as sending
from services.gateway.core.webhook import Attempt
from services.gateway.sender import open_sender

INSIDE = [
    "127.0.0.1",
    "127.8.9.10",
    "0.0.0.0",
    "10.0.0.5",
    "172.16.0.9",
    "192.168.1.1",
    "169.254.169.254",
    "100.100.100.200",
    "192.0.0.192",
    "198.18.0.7",
]
SECRET = "whsec_" + "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0"
PUBLIC = "93.184.216.34"


def spellings(address: str) -> list[str]:
    """An IPv4 address in every form that some resolver, library or gateway reads."""
    number = int(ipaddress.IPv4Address(address))
    parts = [int(part) for part in address.split(".")]
    low = f"{number >> 16:x}:{number & 0xFFFF:x}"
    teredo = f"{~number >> 16 & 0xFFFF:x}:{~number & 0xFFFF:x}"
    return [
        address,
        f"{address}.",
        str(number),
        hex(number),
        f"0{number:o}",
        ".".join(hex(part) for part in parts),
        ".".join(f"0{part:o}" for part in parts),
        f"{parts[0]}.{number & 0xFFFFFF}",
        f"{parts[0]}.{parts[1]}.{number & 0xFFFF}",
        "".join(chr(0xFF10 + int(c)) if c.isdigit() else c for c in address),
        f"[::ffff:{address}]",
        f"[::FFFF:{low}]",
        f"[::{address}]",
        f"[64:ff9b::{address}]",
        f"[64:ff9b:1::{low}]",
        f"[2002:{low}::1]",
        f"[2001:0:1::{teredo}]",
    ]


OTHERS = [
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://x.localhost/",
    "https://[::]/",
    "https://[::1]/",
    "https://[0:0:0:0:0:0:0:1]/",
    "https://[fe80::1%25lo]/",
    "https://[fd00:ec2::254]/",
    "https://[fec0::1]/",
    "https://[ff02::1]/",
    "https://[100::1]/",
    "https://user@10.0.0.5/",
    "https://example.com@10.0.0.5/",
    "https://10.0.0.5@example.com/",
    "https://10.0.0.5#@example.com/",
    "https://10.0.0.5\\@example.com/",
    "https://example.com:22/",
    "https://example.com:25/",
    "https://example.com:80/",
    "https://example.com:0/",
    "https://example.com:65536/",
    "http://example.com/",
    "HTTP://10.0.0.5/",
    "ftp://example.com/",
    "file:///etc/passwd",
    "gopher://10.0.0.5:70/_x",
    "//10.0.0.5/",
    "https:///10.0.0.5/",
    "https://",
    "https://[10.0.0.5]/",
    "https://10.0.0.5%2f@example.com/",
    "https://10.0.0.5\t.example.com/",
    "https://ex\u00e4mple.com/",
]
CORPUS = [f"https://{host}/hook" for address in INSIDE for host in spellings(address)] + OTHERS


def now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


async def send(url: str) -> Attempt:
    """One delivery of a mesh whose operator allows nothing inside."""
    async with open_sender("") as sender:
        return await sender.send(url, [SECRET], message_id="evt_1", body="{}", now=now())


@pytest.fixture
def connects(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The addresses that the HTTP library sets out to connect to; it gets to none."""
    seen: list[str] = []

    async def start(addr_infos: Sequence[Any], **_others: Any) -> socket.socket:
        seen.extend(info[4][0] for info in addr_infos)
        raise ConnectionRefusedError

    monkeypatch.setattr("aiohttp.connector.aiohappyeyeballs.start_connection", start)
    return seen


Answers = Callable[[int], list[str]]


def resolving(monkeypatch: pytest.MonkeyPatch, answers: Answers) -> None:
    """Lets every name stand for what `answers` gives the first, second … time."""
    asked = 0

    async def resolve(
        _self: object, host: str, port: int = 0, family: int = 0
    ) -> list[ResolveResult]:
        nonlocal asked
        asked += 1
        return [
            ResolveResult(hostname=host, host=each, port=port, family=family, proto=0, flags=0)
            for each in answers(asked)
        ]

    monkeypatch.setattr(aiohttp.ThreadedResolver, "resolve", resolve)


def test_there_are_two_hundred() -> None:
    assert len(set(CORPUS)) >= 200


async def test_none_of_the_corpus_is_connected_to(connects: list[str]) -> None:
    for url in CORPUS:
        attempt = await send(url)
        assert (url, attempt.status_code, connects) == (url, None, [])


@pytest.mark.parametrize(
    "address", [*INSIDE, "::1", "::ffff:10.0.0.5", "64:ff9b::a00:5", "fd00::1"]
)
async def test_a_name_for_something_inside_is_not_connected_to(
    connects: list[str], monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    resolving(monkeypatch, lambda _: [address])
    attempt = await send("https://hooks.example.com/")
    assert attempt.failure == "its address may not be reached"
    assert connects == []


async def test_of_a_names_addresses_those_inside_are_left_out(
    connects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, lambda _: ["10.0.0.5", PUBLIC, "169.254.169.254"])
    await send("https://hooks.example.com/")
    assert set(connects) == {PUBLIC}


async def test_a_name_that_changes_between_two_looks_gets_nobody_inside(
    connects: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, lambda time: [PUBLIC if time % 2 else "169.254.169.254"])
    for _ in range(6):
        await send("https://hooks.example.com/")
    assert set(connects) == {PUBLIC}


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def receiver(talk: Talk) -> AsyncIterator[str]:
    """A server on the loopback that talks as it likes."""
    talks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        try:
            await talk(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.transport.abort()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.create_task(serve(reader, writer)))

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for each in talks:
            each.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await asyncio.sleep(0.01)  # transports close a moment later


async def deliver(url: str) -> tuple[Attempt, float]:
    """A delivery to the loopback, which this operator allows, and the seconds that it took."""
    async with open_sender("127.0.0.0/8") as sender:
        began = asyncio.get_running_loop().time()
        attempt = await sender.send(url, [SECRET], message_id="evt_1", body="{}", now=now())
        return attempt, asyncio.get_running_loop().time() - began


async def test_an_answer_without_end_is_not_read() -> None:
    sent = 0

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 10737418240\r\n\r\n")
        while True:
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536

    async with receiver(talk) as url:
        attempt, seconds = await deliver(url)
    assert attempt.status_code == 200
    assert seconds < 5
    assert sent < 64 * 1024**2  # what buffers hold, of 10 GiB


async def test_an_answer_bit_by_bit_ends_with_the_deliverys_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sending, "SECONDS_MAX", 0.5)

    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\n" + b"a" * 600:
            writer.write(bytes((byte,)))
            await writer.drain()
            await asyncio.sleep(0.05)

    async with receiver(talk) as url:
        attempt, seconds = await deliver(url)
    assert (attempt.status_code, attempt.failure) == (None, "no answer within 0 seconds")
    assert 0.4 < seconds < 5


async def test_a_redirect_inside_is_told_and_not_followed() -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        target = b"http://169.254.169.254/latest/meta-data/"
        writer.write(
            b"HTTP/1.1 302 Found\r\ncontent-length: 0\r\nlocation: " + target + b"\r\n\r\n"
        )

    async with receiver(talk) as url:
        attempt, _ = await deliver(url)
    assert attempt.status_code == 302
    assert not attempt.succeeded


@pytest.mark.parametrize(
    ("lines", "status", "retry_seconds"),
    [
        (b"HTTP/1.1 410 Gone\r\n", 410, 0.0),
        (b"HTTP/1.1 429 Slow\r\nretry-after: 120\r\n", 429, 120.0),
        (b"HTTP/1.1 429 Slow\r\nretry-after: 99999999999999999999\r\n", 429, 999_999_999.0),
        (b"HTTP/1.1 429 Slow\r\nretry-after: -5\r\n", 429, 0.0),
        (b"HTTP/1.1 429 Slow\r\nretry-after: soon\r\n", 429, 0.0),
    ],
)
async def test_what_a_receiver_asks_for_is_read(
    lines: bytes, status: int, retry_seconds: float
) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(lines + b"content-length: 0\r\n\r\n")

    async with receiver(talk) as url:
        attempt, _ = await deliver(url)
    assert (attempt.status_code, attempt.retry_after_seconds) == (status, retry_seconds)


@pytest.mark.parametrize(
    "answer",
    [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 200 OK\r\n" + b"h: " + b"x" * 100_000 + b"\r\n\r\n"],
)
async def test_what_is_no_http_is_a_failure_in_a_few_words(answer: bytes) -> None:
    async def talk(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    async with receiver(talk) as url:
        attempt, _ = await deliver(url)
    assert (attempt.status_code, attempt.failure) == (None, "the connection broke off")

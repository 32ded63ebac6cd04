"""Sends what a fuzzer makes to the services of a running mesh and says what it should not hear."""

import asyncio
import itertools
import re
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from services.chassis.auth import MESH_TOKEN_KEY
from tests.support.fuzzing import Fuzzer, Method, list_methods
from tests.support.mesh import Mesh

AT_ONCE = 16
SECONDS_MAX = 30.0
LOOK_SECONDS = 0.2
"""How long an answer that is a stream is listened to."""
MESSAGES_MAX = 4
"""Messages of a call that sends a stream."""
BROKEN = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DEADLINE_EXCEEDED}
INSIDES = re.compile(
    r"Traceback|site-packages|\.py\b|asyncpg|psycopg|postgres(ql)?:|nats:|/services/|/home/|/tmp/"
    r"|\bselect .* from\b|\binsert into\b|object at 0x",
    re.IGNORECASE,
)
"""What an answer must not hold: it would tell how the mesh is made."""


@dataclass
class Heard:
    """What came back."""

    calls: int = 0
    codes: Counter[str] = field(default_factory=Counter)
    findings: dict[tuple[str, str, str], str] = field(default_factory=dict)
    """By method, code and beginning of the message: a payload that brings it about, in hex."""

    def judge(self, method: Method, code: grpc.StatusCode, text: str, payload: bytes) -> None:
        """Counts an answer and keeps it if it should not be."""
        self.calls += 1
        self.codes[code.name] += 1
        if code in BROKEN or INSIDES.search(text):
            self.findings.setdefault((method.path, code.name, text[:160]), payload[:400].hex())


async def storm(mesh: Mesh, key: str, count: int, seed: int, words: Sequence[str] = ()) -> Heard:
    """Calls every RPC in turn until `count` calls are answered: as the mesh or with a key."""
    heard = Heard()
    fuzzer = Fuzzer(seed, words)
    methods = list_methods()
    turns = itertools.islice(itertools.cycle(methods), count)
    as_mesh = ((MESH_TOKEN_KEY, mesh.home.read_secrets().mesh_token),)
    as_tenant = (("authorization", f"Bearer {key}"),)
    addresses = dict(mesh.told["services"])
    addresses["chassis"] = addresses["scheduler"]
    channels = {name: grpc.aio.insecure_channel(address) for name, address in addresses.items()}

    async def call_in_turn() -> None:
        for method in turns:
            await _call(
                channels[method.service],
                method,
                as_mesh if method.internal else as_tenant,
                fuzzer,
                heard,
            )

    try:
        await asyncio.gather(*(call_in_turn() for _ in range(AT_ONCE)))
    finally:
        await asyncio.gather(*(channel.close() for channel in channels.values()))
    return heard


async def _call(
    channel: grpc.aio.Channel,
    method: Method,
    metadata: tuple[tuple[str, str], ...],
    fuzzer: Fuzzer,
    heard: Heard,
) -> None:
    described = method.descriptor
    sent = fuzzer.random.randint(0, MESSAGES_MAX) if described.client_streaming else 1
    payloads = [fuzzer.wire(described.input_type) for _ in range(sent)]
    code, text = grpc.StatusCode.OK, ""
    try:
        text = await _send(channel, method, payloads, metadata)
    except grpc.aio.AioRpcError as error:
        code, text = error.code(), f"{error.details()} {error.trailing_metadata()!r}"
    heard.judge(method, code, text, b"".join(payloads))


async def _send(
    channel: grpc.aio.Channel,
    method: Method,
    payloads: Sequence[bytes],
    metadata: tuple[tuple[str, str], ...],
) -> str:
    described = method.descriptor
    kind = ("stream" if described.client_streaming else "unary") + (
        "_stream" if described.server_streaming else "_unary"
    )
    request: Any = _stream(payloads) if described.client_streaming else payloads[0]
    call = getattr(channel, kind)(method.path)(request, metadata=metadata, timeout=SECONDS_MAX)
    if not described.server_streaming:
        return str(await call)
    try:
        async with asyncio.timeout(LOOK_SECONDS):
            return "".join([str(answer) async for answer in call])
    except TimeoutError:
        return ""
    finally:
        call.cancel()


async def _stream(payloads: Sequence[bytes]) -> AsyncIterator[bytes]:
    for payload in payloads:
        yield payload


def describe(heard: Heard) -> Iterator[str]:
    """The findings in words."""
    for (path, code, text), payload in heard.findings.items():
        yield f"{path}: {code} {text!r} on {payload or '(nothing)'}"

"""The judge's client against an endpoint that answers well, badly, late or not at all."""

import asyncio
import json

import pytest

from services.chassis.chat import Chat
from services.chassis.environment import read_environment
from services.serving.config import Config
from services.serving.core.errors import JudgeFailedError
from services.serving.core.facts import Facts
from services.serving.judge import ChatJudge
from services.serving.wiring import open_judge
from tests.support.chats import Endpoint, endpoint, said
from tests.support.server import free_address

PEOPLE: list[Facts] = [{"age": 30}, {"city": "Oslo"}]


def judge_at(server: Endpoint, key: str = "", seconds: float = 5.0) -> ChatJudge:
    """A client of an endpoint."""
    return ChatJudge(Chat(f"{server.url}/v1/", "wise", key, seconds))


async def test_scores_are_read_from_the_chats_answer() -> None:
    with endpoint(body=said('Here you are: {"scores": [0.25, 1]}')) as server:
        scores = await judge_at(server, key="secret").score({"age": 31}, PEOPLE)
    assert scores == [0.25, 1]
    ((path, authorization, body),) = server.asked
    assert (path, authorization) == ("/v1/chat/completions", "Bearer secret")
    assert (body["model"], body["temperature"]) == ("wise", 0)
    assert json.loads(body["messages"][1]["content"]) == {
        "seeker": {"age": 31},
        "candidates": PEOPLE,
    }


async def test_without_a_key_none_is_sent() -> None:
    with endpoint(body=said('{"scores": []}')) as server:
        assert await judge_at(server).score({}, []) == []
    assert server.asked[0][1] is None


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (500, b"", "status 500"),
        (401, b"secret text", "status 401"),
        (200, b"", "nothing that can be read"),
        (200, b"[]", "nothing that can be read"),
        (200, b'{"choices": []}', "nothing that can be read"),
        (200, said("I cannot judge people."), "nothing that can be read"),
        (200, said('{"points": [1]}'), "nothing that can be read"),
        (200, said('{"scores": 3}'), "nothing that can be read"),
        (200, b'{"choices": [{"message": {"content": null}}]}', "nothing that can be read"),
        (200, said('{"scores": ' + "[" * 20_000 + "]" * 20_000 + "}"), "nothing that can be read"),
    ],
)
async def test_whatever_else_is_answered_is_a_failure(
    status: int, body: bytes, reason: str
) -> None:
    with endpoint(status, body) as server:
        with pytest.raises(JudgeFailedError, match=reason) as caught:
            await judge_at(server).score({}, PEOPLE)
        assert "secret" not in str(caught.value)


async def test_a_late_answer_is_not_waited_for() -> None:
    with endpoint(body=said('{"scores": [1, 1]}'), late=True) as server:
        judge = judge_at(server, seconds=0.2)
        with pytest.raises(JudgeFailedError, match=r"within 0\.2 s"):
            await judge.score({}, PEOPLE)


async def test_nobody_there_is_a_failure() -> None:
    judge = ChatJudge(Chat(f"http://{free_address()}", "wise", "", 1.0))
    with pytest.raises(JudgeFailedError, match="cannot be reached"):
        await judge.score({}, PEOPLE)


async def test_what_speaks_no_http_is_a_failure() -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1")
    async with server:
        host, port = server.sockets[0].getsockname()
        judge = ChatJudge(Chat(f"http://{host}:{port}", "wise", "", 1.0))
        with pytest.raises(JudgeFailedError, match="cannot be reached"):
            await judge.score({}, PEOPLE)


def test_without_a_url_there_is_no_judge() -> None:
    names = ("grpc", "metrics", "gateway", "scheduler", "triplets")
    told = {f"TRINE_{name.upper()}_ADDRESS": "x" for name in names}
    others = ("MESH_TOKEN", "NATS_URL", "ARTIFACTS_URL", "ENCODER_PATH", "BUNDLE_PUBLIC_KEY")
    told |= {f"TRINE_{name}": "x" for name in others}
    assert open_judge(read_environment(Config, told)) is None
    told |= {"TRINE_JUDGE_URL": "http://x", "TRINE_JUDGE_MODEL": "wise"}
    judge = open_judge(read_environment(Config, told))
    assert judge is not None
    assert judge.model == "wise"


def test_only_http_is_spoken() -> None:
    with pytest.raises(ValueError, match="http"):
        Chat("file:///etc", "wise", "", 1.0)

"""Matches for many seekers at once: what each would get alone, and an error for who gets none."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.candidates import pairs
from tests.support.server import refused
from tests.support.serving import Serving, running_serving


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    async with running_serving() as made:
        yield made


async def test_each_gets_what_they_would_get_alone(serving: Serving) -> None:
    await serving.load()
    seen = serving.registry.domains["acme", "dating"].partition.seen
    seen.apply(pairs({(1, 5): 1}))
    content = {
        "limit": 4,
        "filters": {"city": "Oslo", "income": {"gt": -1}},
        "stages": {"light_ml": {"top_k": 8}},
        "exclude": ["u2"],
        "exclude_seen": True,
    }
    seekers = [f"u{number}" for number in range(10)]
    response = await serving.match_all(*seekers, **content)
    assert [result.user_id for result in response.results] == seekers
    for result in response.results:
        alone = await serving.match(result.user_id, **content)
        alone.ClearField("next_page_token")
        assert result.answer.match_id
        alone.match_id = result.answer.match_id
        assert result.answer == alone
        assert not result.HasField("error")


async def test_who_cannot_be_answered_does_not_cost_the_others_theirs(serving: Serving) -> None:
    response = await serving.match_all("u1", "stranger", "u2")
    first, second, third = response.results
    assert len(first.answer.matches) == len(third.answer.matches) == 10
    assert not second.HasField("answer")
    assert (second.error.reason, dict(second.error.metadata)) == (
        "USER_NOT_FOUND",
        {"field": "user_id", "user_id": "stranger"},
    )
    assert "stranger" in second.error.message


@pytest.mark.parametrize(
    ("seekers", "content", "field"),
    [
        ([], {}, "user_ids"),
        (["u1"] * 101, {}, "user_ids"),
        (["u1"], {"limit": 1_001}, "limit"),
        (["u1"] * 100, {"limit": 101}, "limit"),
        (["u1"], {"limit": 0}, "limit"),
        (["u1"], {"domain": ""}, "domain"),
        (["u1"], {"filters": {"age": "old"}}, "filters.age"),
        (["u1"], {"stages": {"llm_judge": True}}, "stages.llm_judge"),
        (["u1"], {"exclude": [str(n) for n in range(1_001)]}, "exclude"),
    ],
)
async def test_what_is_wrong_with_the_whole_is_refused_as_a_whole(
    serving: Serving, seekers: list[str], content: dict[str, Any], field: str
) -> None:
    refusal = await refused(serving.match_all(*seekers, **content))
    assert (refusal.code.name, refusal.metadata["field"]) == ("INVALID_ARGUMENT", field)


async def test_a_batch_needs_its_domain(serving: Serving) -> None:
    refusal = await refused(serving.match_all("u1", domain="hiring"))
    assert refusal.reason == "DOMAIN_NOT_FOUND"

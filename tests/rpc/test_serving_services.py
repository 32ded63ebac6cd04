"""Serving's services: matches as callers meet them, texts to vectors, and what is loaded."""

import base64
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from trine.serving.v1 import (
    match_service_pb2,
)

from services.chassis.api_key import mint_api_key
from services.chassis.auth import Grant
from services.serving.core.ports import DesiredHead
from services.serving.core.swap_heads import FailedHead
from tests.support.candidates import NOW, pairs
from tests.support.heads import PEOPLE, golden
from tests.support.server import ACME, GRANTS, MESH, OTHER, refused
from tests.support.serving import Serving, running_serving

AGES, INCOMES, SMOKES, GOALS = golden()["columns"].T
FUN, LOVE = 0, 1
STAGES = ("light_ml", "embedding", "cross_encoder")


@pytest.fixture
async def serving() -> AsyncIterator[Serving]:
    async with running_serving() as made:
        yield made


def others(mask: npt.NDArray[np.bool_]) -> set[int]:
    """Numbers of those who pass, without the first person."""
    return set(np.flatnonzero(mask).tolist()) - {0}


async def test_without_a_head_the_encoder_ranks(serving: Serving) -> None:
    response = await serving.match()
    vectors = golden()["vectors"]
    best = np.argsort(-(vectors[1:] @ vectors[0]), kind="stable")[:10] + 1
    assert [match.user_id for match in response.matches] == [f"u{number}" for number in best]
    assert dict(response.pipeline_stats) == {"after_sql_filter": 29, "after_embedding": 29}
    assert list(response.models_used) == ["embedding"]
    model = response.models_used["embedding"]
    assert (model.tier, model.version) == ("general", "test")


async def test_a_head_ranks_by_all_its_stages_and_is_named(serving: Serving) -> None:
    head = await serving.load()
    response = await serving.match(limit=5)
    used = {name: (model.tier, model.version) for name, model in response.models_used.items()}
    assert used == dict.fromkeys(STAGES, ("tenant", head))
    after = {f"after_{name}" for name in ("sql_filter", *STAGES)}
    assert set(response.pipeline_stats) == after
    scores = [match.score for match in response.matches]
    assert scores == sorted(scores, reverse=True)
    expected = np.sort(golden()["cross"][:, 0])[::-1][:5]
    assert scores == pytest.approx(expected, abs=1e-4)
    for match in response.matches:
        assert set(match.stage_scores) == set(STAGES)
        assert match.score == match.stage_scores["cross_encoder"]
        assert all(0 <= score <= 1 for score in match.stage_scores.values())


async def test_the_same_request_gets_the_same_answer(serving: Serving) -> None:
    await serving.load()
    first = await serving.match(stages={"cross_encoder": {"top_k": 7}})
    second = await serving.match(stages={"cross_encoder": {"top_k": 7}})
    assert second.match_id != first.match_id
    second.match_id = first.match_id
    assert second == first
    assert len(first.matches) == 7


@pytest.mark.parametrize(("limit", "count"), [(1, 1), (12, 12), (1_000, PEOPLE - 1)])
async def test_a_limit_bounds_the_answer(serving: Serving, limit: int, count: int) -> None:
    assert len((await serving.match(limit=limit)).matches) == count


async def test_pages_are_one_answer_cut(serving: Serving) -> None:
    await serving.load()
    whole = [match.user_id for match in (await serving.match(limit=1_000)).matches]
    found: list[str] = []
    token = ""
    for limit in (5, 1, 10, 1_000):
        response = await serving.match(limit=limit, page_token=token)
        found += [match.user_id for match in response.matches]
        token = response.next_page_token
    assert (found, token) == (whole, "")


async def test_a_page_token_is_of_one_request_and_one_head(serving: Serving) -> None:
    token = (await serving.match(limit=5, exclude=["u3"])).next_page_token
    forged = base64.urlsafe_b64encode(b"a\nb\nc\nd").decode()
    for content in ({"page_token": token}, {"page_token": "x"}, {"page_token": forged}):
        refusal = await refused(serving.match(**content))
        assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "page_token")
    await serving.load()
    refusal = await refused(serving.match(exclude=["u3"], page_token=token))
    assert (refusal.code.name, refusal.reason) == ("ABORTED", "PAGE_TOKEN_STALE")


async def test_the_judge_decides_last_and_if_it_fails_the_order_so_far_stands(
    serving: Serving,
) -> None:
    before = await serving.match(limit=3)
    serving.judge.scores = [0.1, 0.9, 0.5]
    stages = {"llm_judge": {"top_k": 3}}
    response = await serving.match(stages=stages)
    expected = [before.matches[place].user_id for place in (1, 2, 0)]
    assert [match.user_id for match in response.matches] == expected
    assert response.matches[0].score == response.matches[0].stage_scores["llm_judge"] == 0.9
    assert response.pipeline_stats["after_llm_judge"] == 3
    model = response.models_used["llm_judge"]
    assert (model.tier, model.version, model.note) == ("judge", "wise", "")
    assert response.next_page_token == ""
    serving.judge.scores = []
    response = await serving.match(stages=stages)
    assert list(response.matches) == list(before.matches)
    assert "after_llm_judge" not in response.pipeline_stats
    assert response.models_used["llm_judge"].note == "answered 0 scores for 3 candidates"
    token = before.next_page_token
    refusal = await refused(serving.match(stages=stages, page_token=token))
    assert refusal.metadata["field"] == "page_token"


async def test_whoever_is_excluded_is_not_offered(serving: Serving) -> None:
    assert await serving.matched(exclude=["u3", "u4", "stranger"]) == others(
        ~np.isin(np.arange(PEOPLE), [3, 4])
    )
    seen = serving.registry.domains["acme", "dating"].partition.seen
    seen.apply(pairs({(0, 5): 1}))
    assert await serving.matched(exclude_seen=True) == others(np.arange(PEOPLE) != 5)


@pytest.mark.parametrize(
    ("filters", "passing"),
    [
        ({"goal": "fun"}, GOALS == FUN),
        ({"goal": ["fun", "love"]}, (GOALS == FUN) | (GOALS == LOVE)),
        ({"goal": {"not": "fun"}}, GOALS != FUN),
        ({"income": {"gte": 0}}, INCOMES >= 0),
        ({"income": {"gt": -1, "lt": 1}}, (INCOMES > -1) & (INCOMES < 1)),
        ({"smoker": True, "age": {"lte": 0.5}}, (SMOKES == 1) & (AGES <= 0.5)),
        ({"city": "Oslo"}, np.arange(PEOPLE) % 2 == 0),
        ({"city": {"not_in": ["Oslo", "Rome"]}}, np.arange(PEOPLE) % 2 == 1),
        ({"city": "Rome"}, np.zeros(PEOPLE, np.bool_)),
        ({"city": {"contains": "ERG"}}, np.arange(PEOPLE) % 2 == 1),
        ({"city": {"exists": True, "not": "Oslo"}}, np.arange(PEOPLE) % 2 == 1),
        ({"income": {"exists": False}}, np.isnan(INCOMES)),
    ],
)
async def test_filters_let_through_whom_they_name(
    serving: Serving, filters: dict[str, Any], passing: npt.NDArray[np.bool_]
) -> None:
    assert await serving.matched(filters=filters) == others(passing)
    response = await serving.match(filters=filters, limit=1)
    assert response.pipeline_stats["after_sql_filter"] == len(others(passing))


@pytest.mark.parametrize(
    ("content", "reason", "field"),
    [
        ({"user_id": ""}, "FIELD_INVALID", "user_id"),
        ({"domain": ""}, "FIELD_INVALID", "domain"),
        ({"limit": 0}, "FIELD_INVALID", "limit"),
        ({"limit": -1}, "FIELD_INVALID", "limit"),
        ({"limit": 1_001}, "FIELD_INVALID", "limit"),
        ({"exclude": [str(n) for n in range(1_001)]}, "FIELD_INVALID", "exclude"),
        ({"stages": {"reranker": True}}, "FIELD_INVALID", "stages.reranker"),
        ({"stages": {"llm_judge": {"top_k": 51}}}, "FIELD_INVALID", "stages.llm_judge.top_k"),
        ({"stages": {"sql_filter": False}}, "FIELD_INVALID", "stages.sql_filter"),
        ({"stages": {"light_ml": None}}, "FIELD_INVALID", "stages.light_ml"),
        ({"stages": {"embedding": {"top_k": 0}}}, "FIELD_INVALID", "stages.embedding.top_k"),
        ({"stages": dict.fromkeys(STAGES, False)}, "FIELD_INVALID", "stages"),
        ({"filters": {"height": 3}}, "FILTER_INVALID", "filters.height"),
        ({"filters": {"about": "art"}}, "FILTER_INVALID", "filters.about"),
        ({"filters": {"age": "old"}}, "FILTER_INVALID", "filters.age"),
        ({"filters": {"age": {"near": 3}}}, "FILTER_INVALID", "filters.age.near"),
        ({"filters": {"city": {"gt": "A"}}}, "FILTER_INVALID", "filters.city.gt"),
        ({"filters": {"age": {"contains": "3"}}}, "FILTER_INVALID", "filters.age.contains"),
        ({"filters": {"city": {"exists": "no"}}}, "FILTER_INVALID", "filters.city.exists"),
        ({"filters": {"goal": "money"}}, "FILTER_INVALID", "filters.goal"),
        ({"filters": {"goal": None}}, "FILTER_INVALID", "filters.goal"),
        ({"filters": {"goal": {"in": []}}}, "FILTER_INVALID", "filters.goal.in"),
        ({"filters": {str(n): n for n in range(65)}}, "FILTER_INVALID", "filters"),
    ],
)
async def test_a_broken_request_names_the_field_and_the_rule(
    serving: Serving, content: dict[str, Any], reason: str, field: str
) -> None:
    refusal = await refused(serving.match(**content))
    assert (refusal.code.name, refusal.reason) == ("INVALID_ARGUMENT", reason)
    assert refusal.metadata["field"] == field
    assert refusal.metadata["rule"] in refusal.message


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
async def test_numbers_that_json_cannot_say_are_refused_by_their_field(
    serving: Serving, number: float
) -> None:
    request = match_service_pb2.FindMatchesRequest(user_id="u0", domain="dating")
    request.filters["age"] = {"gt": number}
    refusal = await refused(serving.send(request))
    assert (refusal.reason, refusal.metadata["field"]) == ("FILTER_INVALID", "filters.age.gt")
    request.ClearField("filters")
    request.stages["light_ml"].struct_value["top_k"] = number
    refusal = await refused(serving.send(request))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "stages.light_ml.top_k")


async def test_an_unknown_seeker_or_domain_is_not_found(serving: Serving) -> None:
    refusal = await refused(serving.match("u99"))
    assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "USER_NOT_FOUND")
    assert refusal.metadata == {"field": "user_id", "user_id": "u99"}
    refusal = await refused(serving.match(domain="hiring"))
    assert (refusal.code.name, refusal.reason) == ("NOT_FOUND", "DOMAIN_NOT_FOUND")
    assert refusal.metadata == {"domain": "hiring"}


async def test_while_candidates_are_loaded_only_whole_domains_are_served(serving: Serving) -> None:
    serving.ready = False
    assert len((await serving.match()).matches) == 10
    refusal = await refused(serving.match(domain="hiring"))
    assert (refusal.code.name, refusal.reason) == ("UNAVAILABLE", "NOT_READY")


async def test_tenants_match_among_their_own_people_by_their_own_head(serving: Serving) -> None:
    await serving.load()
    refusal = await refused(serving.match(metadata=OTHER))
    assert refusal.reason == "DOMAIN_NOT_FOUND"
    serving.fill("other", "dating")
    others_match = await serving.match(metadata=OTHER)
    assert others_match.models_used["embedding"].tier == "general"
    assert (await serving.match()).models_used["embedding"].tier == "tenant"


async def test_matching_needs_a_key_with_its_scope(
    serving: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert (await refused(serving.match(metadata=()))).reason == "API_KEY_MISSING"
    assert (await refused(serving.match(metadata=MESH))).reason == "API_KEY_MISSING"
    key, hashed = mint_api_key()
    monkeypatch.setitem(GRANTS, hashed, Grant("acme", frozenset({"runs:read"}), None))
    bearer = (("authorization", f"Bearer {key}"),)
    refusal = await refused(serving.match(metadata=bearer))
    assert (refusal.reason, refusal.metadata) == ("SCOPE_MISSING", {"scope": "match:read"})


async def test_texts_become_vectors(serving: Serving) -> None:
    response = await serving.encode("tea", "")
    assert (response.encoder, response.dim) == ("test", 2)
    vectors = np.frombuffer(response.vectors, "<f2").reshape(2, response.dim)
    assert vectors.tolist() == [[3, 0.5], [0, 0.5]]
    assert len((await serving.encode(*["tea"] * 256)).vectors) == 256 * 2 * 2


@pytest.mark.parametrize("count", [0, 257])
async def test_texts_to_encode_are_one_to_256(serving: Serving, count: int) -> None:
    refusal = await refused(serving.encode(*["tea"] * count))
    assert (refusal.reason, refusal.metadata["field"]) == ("FIELD_INVALID", "texts")


async def test_an_encoder_that_breaks_tells_nothing_of_the_inside(serving: Serving) -> None:
    refusal = await refused(serving.encode("break"))
    assert (refusal.code.name, refusal.reason) == ("INTERNAL", "INTERNAL")
    assert "hunter2" not in refusal.message


async def test_what_is_loaded_and_what_was_refused_is_listed(serving: Serving) -> None:
    head = await serving.load()
    serving.fill("acme", "hiring")
    desired = DesiredHead("acme", "hiring", "u_acme.hiring.2026-05-17.001", "tenant", "1" * 64)
    serving.registry.failed["acme", "hiring", "tenant"] = FailedHead(
        desired, "gives another light", 0
    )
    response = await serving.loaded()
    loaded = [(h.domain, h.head, h.probes_count, h.recall) for h in response.heads]
    assert loaded == [("dating", head, 0, 1), ("hiring", "test", 0, 1)]
    assert response.heads[0].load_time.ToDatetime(NOW.tzinfo) == NOW
    (failed,) = response.failed_heads
    assert (failed.head, failed.message) == (desired.head, "gives another light")


async def test_what_is_loaded_and_the_encoder_are_the_meshs_alone(serving: Serving) -> None:
    for call in (serving.loaded(metadata=ACME), serving.encode("tea", metadata=ACME)):
        assert (await refused(call)).reason == "INTERNAL_RPC"

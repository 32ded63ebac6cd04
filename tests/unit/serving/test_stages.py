"""Stage options: shortcuts, objects, defaults, and errors that name the stage."""

import pytest

from services.serving.core.errors import FieldInvalidError
from services.serving.core.stages import CROSS, DEFAULTS, EMBEDDING, JUDGE, LIGHT, read_stages


def test_nothing_said_means_the_defaults() -> None:
    assert read_stages({}) == DEFAULTS


def test_booleans_and_objects_may_be_mixed() -> None:
    options = read_stages({LIGHT: False, CROSS: {"top_k": 25, "min_score": 0.5}})
    assert not options[LIGHT].enabled
    assert options[EMBEDDING] == DEFAULTS[EMBEDDING]
    assert (options[CROSS].enabled, options[CROSS].top_k, options[CROSS].min_score) == (
        True,
        25,
        0.5,
    )


def test_the_judge_is_off_and_can_be_switched_on_where_there_is_one() -> None:
    assert not DEFAULTS[JUDGE].enabled
    assert read_stages({JUDGE: False}) == DEFAULTS
    with pytest.raises(FieldInvalidError, match="not configured"):
        read_stages({JUDGE: True})
    options = read_stages({JUDGE: {"top_k": 50}}, judge_configured=True)
    assert (options[JUDGE].enabled, options[JUDGE].top_k) == (True, 50)


@pytest.mark.parametrize("content", [True, {"enabled": True}])
def test_the_filter_may_be_named(content: object) -> None:
    assert read_stages({"sql_filter": content}) == DEFAULTS


@pytest.mark.parametrize(
    ("stages", "field"),
    [
        ({"reranker": True}, "stages.reranker"),
        ({LIGHT: "yes"}, "stages.light_ml"),
        ({LIGHT: {"enabled": 1}}, "stages.light_ml.enabled"),
        ({LIGHT: {"top_k": 0}}, "stages.light_ml.top_k"),
        ({LIGHT: {"top_k": 1.5}}, "stages.light_ml.top_k"),
        ({LIGHT: {"top_k": True}}, "stages.light_ml.top_k"),
        ({LIGHT: {"top_k": 10_001}}, "stages.light_ml.top_k"),
        ({LIGHT: {"top_k": float("inf")}}, "stages.light_ml.top_k"),
        ({LIGHT: {"top_k": float("nan")}}, "stages.light_ml.top_k"),
        ({LIGHT: {"min_score": float("nan")}}, "stages.light_ml.min_score"),
        ({LIGHT: {"min_score": 1.5}}, "stages.light_ml.min_score"),
        ({LIGHT: {"limit": 3}}, "stages.light_ml.limit"),
        ({LIGHT: False, EMBEDDING: False, CROSS: False}, "stages"),
        ({"sql_filter": False}, "stages.sql_filter"),
        ({"sql_filter": {"top_k": 3}}, "stages.sql_filter"),
        ({JUDGE: {"top_k": 51}}, "stages.llm_judge.top_k"),
    ],
)
def test_broken_options_name_their_place(stages: dict[str, object], field: str) -> None:
    with pytest.raises(FieldInvalidError) as caught:
        read_stages(stages, judge_configured=True)
    assert caught.value.metadata["field"] == field

"""Stage options: shortcuts, objects, defaults, and errors that name the stage."""

import pytest

from services.serving.core.errors import FieldInvalidError
from services.serving.core.stages import CROSS, DEFAULTS, EMBEDDING, LIGHT, read_stages


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


def test_the_judge_may_be_switched_off_but_not_on() -> None:
    assert read_stages({"llm_judge": False}) == DEFAULTS
    with pytest.raises(FieldInvalidError):
        read_stages({"llm_judge": True})


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
    ],
)
def test_broken_options_name_their_place(stages: dict[str, object], field: str) -> None:
    with pytest.raises(FieldInvalidError) as caught:
        read_stages(stages)
    assert caught.value.metadata["field"] == field

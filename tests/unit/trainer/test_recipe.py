"""The recipe: complete, immutable, within the bounds that give every part of a run something."""

import dataclasses
import json
import math
from typing import Any

import pytest

from services.trainer.core.recipe import DEFAULT_RECIPE, Recipe


def numbers(content: dict[str, Any]) -> dict[str, float]:
    """Every number of a recipe by its path."""
    found: dict[str, float] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": number for inner, number in numbers(value).items()}
        elif isinstance(value, tuple | list):
            found |= {f"{name}[{place}]": number for place, number in enumerate(value)}
        else:
            found[name] = value
    return found


def test_the_default_is_what_a_recipe_is_without_words() -> None:
    assert Recipe() == DEFAULT_RECIPE


def test_every_number_of_it_survives_json() -> None:
    """The manifest carries the recipe as JSON: a run can be repeated from it."""
    content = dataclasses.asdict(DEFAULT_RECIPE)
    assert numbers(json.loads(json.dumps(content))) == numbers(content)


def test_every_number_is_finite_and_above_zero() -> None:
    found = numbers(dataclasses.asdict(DEFAULT_RECIPE))
    assert len(found) > 25
    assert {path: n for path, n in found.items() if not (math.isfinite(n) and n > 0)} == {}


def test_shares_are_shares() -> None:
    found = numbers(dataclasses.asdict(DEFAULT_RECIPE))
    shares = {path: number for path, number in found.items() if path.endswith("share")}
    assert set(shares) == {"cross.triplet_share", "query_map.in_batch_share"}
    assert all(share < 1 for share in shares.values())


def test_the_split_leaves_the_gate_enough_to_see() -> None:
    few, many = DEFAULT_RECIPE.split, DEFAULT_RECIPE.split_of_many
    assert 1 - few.training - few.validation == pytest.approx(0.30)
    assert 1 - many.training - many.validation == pytest.approx(0.15)
    assert all(split.training > split.validation > 0 for split in (few, many))


def test_sums_are_made_by_one_thread_so_that_runs_repeat_themselves() -> None:
    assert DEFAULT_RECIPE.threads == 1


def test_variance_is_chosen_among_no_change_and_growth() -> None:
    scales = DEFAULT_RECIPE.light.variance_scales
    assert scales[0] == 1.0
    assert list(scales) == sorted(set(scales))


def test_choosing_by_folds_needs_two_of_them() -> None:
    assert DEFAULT_RECIPE.light.folds >= 2


def test_a_recipe_cannot_be_changed_in_place() -> None:
    for part in (DEFAULT_RECIPE, DEFAULT_RECIPE.cross, DEFAULT_RECIPE.split):
        (name, *_) = (field.name for field in dataclasses.fields(part))
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(part, name, 0)


def test_another_recipe_leaves_the_default_as_it_was() -> None:
    other = dataclasses.replace(DEFAULT_RECIPE, patience=1)
    assert other != DEFAULT_RECIPE
    assert DEFAULT_RECIPE.patience == Recipe().patience

"""Domain heads: they know nobody, and a tenant's learning begins with what they say."""

import dataclasses
from functools import cache

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from services.trainer.core.ports import LearnedHead
from services.trainer.core.recipe import (
    DEFAULT_RECIPE,
    CrossRecipe,
    LightRecipe,
    QueryMapRecipe,
    Recipe,
)
from services.trainer.core.watch import Watch
from services.trainer.learning.learner import TorchLearner
from services.trainer.learning.light import LightTraining
from services.trainer.learning.onnx_head import OnnxHead
from services.trainer.learning.prior import Prior
from services.trainer.learning.query_map import QueryMapTraining
from services.trainer.learning.snapshot import Snapshot, columns_for, read_snapshot
from tests.support.snapshots import COLUMNS, snapshot

RECIPE = dataclasses.replace(
    DEFAULT_RECIPE,
    light=LightRecipe(rounds=4),
    cross=CrossRecipe(epochs=1),
    query_map=QueryMapRecipe(epochs=2),
)
DOMAIN = snapshot(people=120, partners=14, seed=1)


@cache
def domain_head() -> LearnedHead:
    """A head that knows no people."""
    watch = Watch("", "")
    return TorchLearner("cpu", RECIPE).learn(DOMAIN, None, None, 0, watch, knows_people=False)


def tenant(people: int = 40, partners: int = 4) -> Snapshot:
    """A tenant that holds the domain's columns in another order, and one of its own."""
    pets = {"name": "pets", "type": "boolean", "members": []}
    columns = [COLUMNS[1], COLUMNS[0], pets, *COLUMNS[2:]]
    return read_snapshot(snapshot(people=people, partners=partners, seed=2, columns=columns))


def logits(domain: OnnxHead, of: Snapshot) -> torch.Tensor:
    """What the domain head says of a tenant's outcomes, by profiles alone."""
    columns = columns_for(of, domain.columns)
    nobody = np.zeros((len(columns), 4), np.float32), np.zeros((len(columns), 2), np.float32)
    states = domain.describe(columns, *nobody)
    cosines = (of.vectors[of.seekers] * of.vectors[of.candidates]).sum(1, keepdim=True)
    seekers, candidates = of.seekers.numpy(), of.candidates.numpy()
    scored = domain.score_light(states[seekers], states[candidates], cosines.numpy())
    return torch.from_numpy(scored[:, 0]).double()


def test_a_domain_head_knows_nobody_and_shows_nobody() -> None:
    head = domain_head()
    assert load(head.files.table)["table"].shape == (0, 2)
    golden, people = load(head.golden), read_snapshot(DOMAIN)
    assert not golden["table"].any()
    for name, known in (("vectors", people.vectors), ("columns", people.columns)):
        distances = np.abs(np.nan_to_num(golden[name])[:, None] - np.nan_to_num(known.numpy()))
        assert distances.sum(2).min() > 0.01, f"somebody's own {name} are among the golden vectors"


def test_what_the_domain_head_says_is_said_in_the_tenants_terms() -> None:
    small = tenant()
    prior, rows = Prior(domain_head().files, small), torch.arange(len(small.seekers))
    light = LightTraining(small, rows, RECIPE.light, prior)
    begun = light.logits(light.start(), rows, torch.zeros(small.users_count, 2).double())
    said = logits(OnnxHead(domain_head().files), small)
    difference = (begun - said) - (begun - said).mean()  # the intercept is the tenant's own
    assert difference.std() < 0.02 * said.std()


def test_the_query_map_begins_with_the_domain_heads() -> None:
    small = tenant()
    prior, rows = Prior(domain_head().files, small), torch.arange(len(small.seekers))
    light, head = LightTraining(small, rows, RECIPE.light), OnnxHead(domain_head().files)
    training = QueryMapTraining(
        small, light.features, rows, recipe=RECIPE.query_map, seed=0, prior=prior
    )
    columns, vectors = columns_for(small, head.columns), small.vectors.numpy()
    wanted = [head.map_query(columns[i : i + 1], vectors[i : i + 1])[0] for i in range(40)]
    with torch.no_grad():
        found = training.model(small.columns, small.vectors).numpy()
    moved = np.abs(np.stack(wanted) - vectors).max()
    assert moved > 0, "the domain head's map is the identity"
    assert np.abs(found - np.stack(wanted)).max() < 0.01 * moved


@pytest.mark.parametrize(("people", "partners", "near"), [(24, 3, True), (300, 16, False)])
def test_little_stays_near_the_domain_head_and_much_leaves_it(
    people: int, partners: int, near: bool
) -> None:
    """Here age repels, of which the domain head says that it attracts."""
    own = tenant(people, partners)
    opposite = dataclasses.replace(own, columns=own.columns.clone())
    opposite.columns[:, 1] *= -1
    rows = torch.arange(len(own.seekers))
    light = LightTraining(opposite, rows, RECIPE.light, Prior(domain_head().files, opposite))
    begun = fit = light.start()
    for number in range(RECIPE.light.rounds):
        fit = light.run_round(fit, number)
    age = [int(f) for f in torch.nonzero(begun.beta[1:].abs() > 0.1)[:, 0]]
    assert age, "the domain head says nothing of age"
    strongest = 1 + max(age, key=lambda place: abs(float(begun.beta[1 + place])))
    moved = float(fit.beta[strongest] / begun.beta[strongest])
    assert moved > 0.3 if near else moved < 0


def learn(recipe: Recipe, content: bytes, incumbent: LearnedHead) -> LearnedHead:
    watch = Watch("", "")
    return TorchLearner("cpu", recipe).learn(content, incumbent.files, None, 0, watch)


def test_an_incumbent_whose_columns_are_not_there_is_told_to_be_unfit() -> None:
    content = snapshot(people=40, partners=8, seed=3, columns=COLUMNS[1:])
    unfit = learn(RECIPE, content, domain_head()).evaluation
    assert (unfit.incumbent_unfit, unfit.incumbent_calibrated) == (True, False)
    fit = learn(RECIPE, snapshot(people=40, partners=8, seed=3), domain_head()).evaluation
    assert (fit.incumbent_unfit, fit.incumbent_calibrated) == (False, True)

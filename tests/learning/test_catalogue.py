"""Domains where nobody says no: what their heads learn, and that they repeat themselves."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load

from services.scheduler.core.verdict import Evaluation, judge
from services.trainer.core.errors import RunCancelledError
from services.trainer.core.ports import LearnedHead
from services.trainer.core.recipe import DEFAULT_RECIPE, FactorsRecipe
from services.trainer.core.watch import Watch
from services.trainer.learning.catalogue import is_catalogue, split_choices, with_negatives
from services.trainer.learning.factors import fit_vectors, read_histories
from services.trainer.learning.journal import Journal
from services.trainer.learning.learner import TorchLearner
from services.trainer.learning.snapshot import read_snapshot
from tests.support.catalogues import ITEMS, TASTES, catalogue
from tests.support.snapshots import snapshot

EXACT = FactorsRecipe(rank=ITEMS, follows_weight=0.0)


def learn(content: bytes, watch: Watch | None = None, **options: Any) -> LearnedHead:
    """A whole run on the CPU."""
    arguments: dict[str, Any] = {"incumbent": None, "checkpoint": None, "seed": 0} | options
    return TorchLearner("cpu").learn(content, watch=watch or Watch("", ""), **arguments)


def promoted(head: LearnedHead) -> bool:
    """The gate's word."""
    names = [field.name for field in dataclasses.fields(Evaluation)]
    evaluation = Evaluation(**{name: getattr(head.evaluation, name) for name in names})
    return judge(evaluation, "general", 0).promoted


def test_whoever_chose_alike_is_offered_what_the_others_chose() -> None:
    factors = load(learn(catalogue()).files.factors)
    candidates = factors["candidates"].astype(float)
    assert factors["people"].tolist() == list(range(ITEMS))
    for taste in range(TASTES):
        query = factors["history"].astype(float)[taste::TASTES][:3].sum(0)
        best = np.argsort(-(candidates @ query))[:12]
        assert (best % TASTES == taste).mean() > 0.9


def test_the_gate_lets_such_a_head_through_and_none_that_learned_from_noise() -> None:
    assert promoted(learn(catalogue(seekers=80)))
    assert not promoted(learn(catalogue(seekers=80, noise=1.0)))


def test_learning_the_same_again_is_no_progress_but_more_choices_are() -> None:
    few = learn(catalogue(seekers=100, choices=4, noise=0.5))
    assert not promoted(learn(catalogue(seekers=100, choices=4, noise=0.5), incumbent=few.files))
    evaluation = learn(catalogue(seekers=100, choices=4, noise=0.5), incumbent=few.files).evaluation
    assert np.allclose(evaluation.challenger_scores, evaluation.incumbent_scores, atol=1e-3)
    assert evaluation.incumbent_calibrated


def test_vectors_are_those_of_ease_where_the_rank_is_full() -> None:
    arrays = read_snapshot(catalogue())
    histories = read_histories(arrays, torch.arange(len(arrays.seekers)))
    vectors = fit_vectors(histories, EXACT, 10.0, 0)
    chosen = torch.zeros(arrays.users_count, ITEMS, dtype=torch.float64)
    chosen[histories.seekers, histories.places] = 1
    inverse = torch.linalg.inv(chosen.T @ chosen + 10.0 * torch.eye(ITEMS))
    weights = -inverse / torch.diagonal(inverse)
    found = vectors.history @ vectors.candidates.T
    apart = ~torch.eye(ITEMS, dtype=torch.bool)
    assert torch.allclose(found.double()[apart], weights[apart], atol=1e-4)


def test_the_same_run_gives_the_same_bytes_also_when_it_was_interrupted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = catalogue(texts=True)
    whole = learn(content)
    assert learn(content).files == whole.files
    checkpoints: list[bytes] = []
    plain = Journal.step

    def step(journal: Journal, *arguments: Any) -> None:
        plain(journal, *arguments)
        checkpoints.append(journal.to_bytes())
        raise RunCancelledError

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "step", step)
            with pytest.raises(RunCancelledError):
                learn(content, checkpoint=checkpoints[-1] if checkpoints else None)
    resumed = learn(content, checkpoint=checkpoints[-1])
    assert (resumed.files, resumed.golden) == (whole.files, whole.golden)


def test_each_seekers_last_choices_are_the_gates() -> None:
    arrays = read_snapshot(catalogue())
    choices = split_choices(arrays, 0.15)
    assert sorted([*choices.known.tolist(), *choices.gate.tolist()]) == list(
        range(len(arrays.seekers))
    )
    for seeker in arrays.seekers.unique():
        known, late = (arrays.times[rows[arrays.seekers[rows] == seeker]] for rows in choices)
        assert len(late) == round(0.15 * (len(known) + len(late)))
        assert not len(late) or known.max() < late.min()


def test_negatives_are_drawn_from_the_catalogue_and_never_what_a_seeker_has_chosen() -> None:
    arrays = read_snapshot(catalogue())
    rows = torch.arange(50)
    extended, every = with_negatives(arrays, rows, 20, 0)
    chosen = set(zip(arrays.seekers.tolist(), arrays.candidates.tolist(), strict=True))
    drawn = every[every >= len(arrays.seekers)]
    pairs = zip(extended.seekers[drawn].tolist(), extended.candidates[drawn].tolist(), strict=True)
    assert len(drawn) > 100
    assert not chosen & set(pairs)
    assert int(extended.candidates[drawn].max()) < ITEMS
    assert float(extended.positive[drawn].sum()) == 0


def test_a_domain_with_noes_is_no_catalogue() -> None:
    assert is_catalogue(read_snapshot(catalogue()))
    assert not is_catalogue(read_snapshot(snapshot()))
    assert not learn(snapshot(people=30, partners=6)).files.factors


def test_a_table_that_would_be_too_large_gets_a_lower_rank() -> None:
    arrays = read_snapshot(catalogue())
    histories = read_histories(arrays, torch.arange(len(arrays.seekers)))
    recipe = FactorsRecipe(numbers_max=5 * ITEMS, follows_max=0)
    assert fit_vectors(histories, recipe, 10.0, 0).history.shape == (ITEMS, 5)


@pytest.mark.parametrize(("seekers", "choices"), [(1, 2), (3, 2), (8, 1)])
def test_a_tiny_catalogue_gives_a_head_all_the_same(seekers: int, choices: int) -> None:
    head = learn(catalogue(seekers=seekers, choices=choices))
    assert np.isfinite(head.evaluation.challenger_scores).all()
    assert np.isfinite(load(head.files.factors)["candidates"]).all()


def test_the_recipe_counts_what_it_draws() -> None:
    evaluation = learn(catalogue()).evaluation
    positives = int((evaluation.levels >= 2).sum())
    assert positives
    assert len(evaluation.levels) <= positives * (1 + DEFAULT_RECIPE.factors.negatives)
    assert (np.diff(evaluation.seekers) >= 0).all()

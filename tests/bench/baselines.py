"""What plain models make of the same meetings: what a head must be held against.

Each is fitted to the same training meetings from the same fields, tuned on inner folds of them. The
readme's baselines with person effects are stronger than these (LAB.md).
Shapes: n meetings, f features; a meeting is a row of `Meetings`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from services.mesh.speed_dating import Meeting, Person

Floats = NDArray[np.float64]
Rows = NDArray[np.intp]
Model = Callable[["Meetings", Rows, Rows], Floats]

INNER_FOLDS = 3
EFFECT_FOLDS = 5
RIDGES = (30.0, 100.0, 300.0, 1_000.0)
SMOOTHINGS = (1.0, 2.0, 4.0, 8.0)
NEWTON_STEPS = 12


@dataclass(frozen=True, slots=True)
class Meetings:
    """All meetings as arrays, and folds of them that training may tune by."""

    seekers: Rows
    candidates: Rows
    yes: Floats
    inner: Rows
    """Which meetings are left out together when tuning."""
    profiles: Floats
    """[people, f]: standardised numbers, members of enums."""

    def pairs(self, rows: Rows) -> Floats:
        """Intercept, both profiles and their products: [n, 1 + 3 f]."""
        ours, theirs = self.profiles[self.seekers[rows]], self.profiles[self.candidates[rows]]
        return np.concatenate([np.ones((len(rows), 1)), ours, theirs, ours * theirs], axis=1)

    def rates(self, known: Rows, smoothing: float) -> Floats:
        """Logits of how often each person says yes and is told yes, smoothed: [people, 2]."""
        mean = self.yes[known].mean()
        logits = np.empty((len(self.profiles), 2))
        for column, people in enumerate((self.seekers[known], self.candidates[known])):
            size = len(self.profiles)
            positive = np.bincount(people, self.yes[known], size) + smoothing * mean
            logits[:, column] = _logit(positive / (np.bincount(people, None, size) + smoothing))
        return logits

    def effects(self, rows: Rows, known: Rows, smoothing: float) -> Floats:
        """Both people's logits for some meetings, from what is known of others: [n, 2]."""
        logits = self.rates(known, smoothing)
        ours, theirs = logits[self.seekers[rows], 0], logits[self.candidates[rows], 1]
        return np.stack([ours, theirs], axis=1)


def read(people: list[Person], meetings: list[Meeting], inner: Rows) -> Meetings:
    """Meetings as arrays."""
    number = {person.user_id: place for place, person in enumerate(people)}
    return Meetings(
        np.array([number[meeting.seeker] for meeting in meetings]),
        np.array([number[meeting.candidate] for meeting in meetings]),
        np.array([float(meeting.yes) for meeting in meetings]),
        inner,
        _profiles(people),
    )


def popularity(meetings: Meetings, train: Rows, test: Rows) -> Floats:
    """How often the candidate is told yes."""
    smoothing = _tune(meetings, train, SMOOTHINGS, _score_popularity)
    return _score_popularity(meetings, train, test, smoothing)


def person_effects(meetings: Meetings, train: Rows, test: Rows) -> Floats:
    """How often the candidate is told yes and the seeker says it."""
    smoothing = _tune(meetings, train, SMOOTHINGS, _score_effects)
    return _score_effects(meetings, train, test, smoothing)


def logistic(meetings: Meetings, train: Rows, test: Rows) -> Floats:
    """Logistic regression on both profiles and their products."""
    ridge = _tune(meetings, train, RIDGES, _score_logistic)
    return _score_logistic(meetings, train, test, ridge)


def logistic_with_effects(meetings: Meetings, train: Rows, test: Rows) -> Floats:
    """The same with person effects, which are cross-fitted in training."""
    smoothing = _tune(meetings, train, SMOOTHINGS, _score_effects)

    def score(meetings: Meetings, train: Rows, test: Rows, ridge: float) -> Floats:
        known = np.empty((len(train), 2))
        part = np.arange(len(train)) % EFFECT_FOLDS
        for fold in range(EFFECT_FOLDS):
            out = part == fold
            known[out] = meetings.effects(train[out], train[~out], smoothing)
        design = np.concatenate([meetings.pairs(train), known], axis=1)
        weights = _fit(design, meetings.yes[train], ridge)
        effects = meetings.effects(test, train, smoothing)
        return np.concatenate([meetings.pairs(test), effects], axis=1) @ weights

    return score(meetings, train, test, _tune(meetings, train, RIDGES, score))


def _score_popularity(meetings: Meetings, train: Rows, test: Rows, smoothing: float) -> Floats:
    return meetings.effects(test, train, smoothing)[:, 1]


def _score_effects(meetings: Meetings, train: Rows, test: Rows, smoothing: float) -> Floats:
    mean = _logit(meetings.yes[train].mean(keepdims=True))
    scores: Floats = meetings.effects(test, train, smoothing).sum(axis=1) - mean
    return scores


def _score_logistic(meetings: Meetings, train: Rows, test: Rows, ridge: float) -> Floats:
    scores: Floats = meetings.pairs(test) @ _fit(meetings.pairs(train), meetings.yes[train], ridge)
    return scores


def _tune(
    meetings: Meetings,
    train: Rows,
    settings: tuple[float, ...],
    score: Callable[[Meetings, Rows, Rows, float], Floats],
) -> float:
    """The setting under which training meetings that are left out have the least log-loss."""
    losses: list[float] = []
    part = meetings.inner[train] % INNER_FOLDS
    for setting in settings:
        loss = 0.0
        for fold in range(INNER_FOLDS):
            left_out = train[part == fold]
            logits = score(meetings, train[part != fold], left_out, setting)
            loss += float((np.logaddexp(0, logits) - meetings.yes[left_out] * logits).sum())
        losses.append(loss)
    return settings[int(np.argmin(losses))]


def _fit(design: Floats, yes: Floats, ridge: float) -> Floats:
    """Logistic regression by Newton's method; the intercept stands first, without a ridge."""
    weights = np.zeros(design.shape[1])
    penalty = np.full(len(weights), ridge)
    penalty[0] = 0.0
    for _ in range(NEWTON_STEPS):
        chance = 1 / (1 + np.exp(-design @ weights))
        gradient = design.T @ (yes - chance) - penalty * weights
        curvature = design.T @ (design * (chance * (1 - chance))[:, np.newaxis])
        weights = weights + np.linalg.solve(curvature + np.diag(penalty + 1e-9), gradient)
    return weights


def _profiles(people: list[Person]) -> Floats:
    """Numbers standardised, a missing one the mean; enums as one column a member, but the last."""
    names = sorted({name for person in people for name in person.fields} - {"event", "about"})
    columns: list[Floats] = []
    for name in names:
        values = [person.fields.get(name) for person in people]
        if any(isinstance(value, str) for value in values):
            members = sorted({value for value in values if value})
            columns += [np.array([float(v == member) for v in values]) for member in members[:-1]]
        else:
            numbers = np.array([np.nan if value is None else float(value) for value in values])
            columns.append(np.where(np.isnan(numbers), np.nanmean(numbers), numbers))
    table = np.stack(columns, axis=1)
    standard: Floats = (table - table.mean(axis=0)) / table.std(axis=0)
    return standard


def _logit(chance: Floats) -> Floats:
    return np.log(chance / (1 - chance))

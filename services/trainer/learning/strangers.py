"""People who do not exist: made up after the columns of those who do.

What must hold of anybody is tried on them, where nobody's own values may or need be shown.
"""

import dataclasses

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from services.trainer.core.ports import Column
from services.trainer.learning.snapshot import Snapshot

MISSING = 0.1
"""Share of values that strangers lack."""
_SEED = 0

Floats = npt.NDArray[np.float32]


def make_strangers(snapshot: Snapshot, count: int) -> Snapshot:
    """A snapshot of people like those of another, each of whom has met two: nothing came of it.

    Each column is drawn alone: of the people nothing but means and deviations goes into it.
    """
    random = np.random.default_rng(_SEED)
    known = snapshot.columns.cpu().numpy()
    drawn = [
        _draw(field, known[:, index], count, random) for index, field in enumerate(snapshot.fields)
    ]
    columns = np.stack(drawn, axis=1) if drawn else np.zeros((count, 0), np.float32)
    columns[random.random(columns.shape) < MISSING] = np.nan
    vectors = random.normal(size=(count, snapshot.vectors.shape[1])).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    device = snapshot.columns.device
    people = torch.arange(count, device=device)
    return dataclasses.replace(
        snapshot,
        columns=torch.from_numpy(columns).to(device),
        vectors=torch.from_numpy(vectors).to(device),
        seekers=people.repeat(2),
        candidates=torch.cat([people.roll(1), people.roll(2)]),
    )


def make_counts(count: int) -> Tensor:
    """Counts [count, 4] of outcomes given, positive given, received, positive received."""
    random = np.random.default_rng(_SEED)
    given = random.integers(0, 20, (count, 2))
    positive = random.integers(0, given + 1)
    counts = np.stack([given[:, 0], positive[:, 0], given[:, 1], positive[:, 1]], axis=1)
    return torch.from_numpy(counts.astype(np.float32))


def _draw(column: Column, known: Floats, count: int, random: np.random.Generator) -> Floats:
    if column.type == "boolean":
        return random.integers(0, 2, count).astype(np.float32)
    if column.type == "enum":
        return random.integers(0, len(column.members), count).astype(np.float32)
    values = known[~np.isnan(known)].astype(np.float64)
    mean, deviation = (values.mean(), values.std()) if len(values) else (0.0, 1.0)
    return random.normal(mean, deviation or 1.0, count).astype(np.float32)

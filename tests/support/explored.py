"""Made-up pages of a domain that explores, with known truth."""

import numpy as np

from services.scheduler.core.counterfactual import ScoredPages

SLOTS = 8


def explored_pages(
    seed: int,
    *,
    pages: int = 1_500,
    share: float = 0.3,
    challenger: float = 1.0,
    incumbent: float = 0.3,
) -> tuple[ScoredPages, float, float]:
    """Pages ranked by an incumbent, and the true values of both heads' orders.

    `challenger` and `incumbent` are how much each head sees of whom the seekers like; below 0 it
    sees the opposite. Lower ranks are looked at less.
    """
    random = np.random.default_rng(seed)
    shape = (pages, SLOTS)
    liking = random.normal(size=shape)
    scores = [skill * liking + random.normal(size=shape) for skill in (challenger, incumbent)]
    orders = [np.argsort(np.argsort(-each, axis=1), axis=1) for each in scores]
    explored = random.random(pages) < share
    shuffled = np.argsort(random.random(shape), axis=1)
    shown = np.where(explored[:, np.newaxis], shuffled, orders[1])
    discounts = 1 / np.log2(np.arange(SLOTS) + 2.0)
    ease = random.normal(0, 0.5, 200)
    seekers = random.integers(0, len(ease), pages)
    chance = 1 / (1 + np.exp(1.5 - liking - ease[seekers][:, np.newaxis]))
    accepted = random.random(shape) < chance * discounts[shown]
    said = accepted | (random.random(shape) < 0.2)
    values = [float((chance * discounts[at] ** 2).sum(axis=1).mean()) for at in orders]
    scored = ScoredPages(
        seekers=seekers.astype(np.int32),
        explored=explored,
        slot_pages=np.repeat(np.arange(pages, dtype=np.int32), SLOTS),
        ranks=(shown + 1).ravel().astype(np.int32),
        propensities=((1 - share) * (shown == orders[1]) + share / SLOTS).ravel(),
        levels=np.where(accepted, 2, np.where(said, 0, -1)).ravel().astype(np.int32),
        challenger_scores=scores[0].ravel(),
        incumbent_scores=scores[1].ravel(),
    )
    return scored, values[0], values[1]

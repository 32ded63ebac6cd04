"""A verdict in a sentence or two, for people who did not train the head."""

from services.scheduler.core.head import Head
from services.scheduler.core.verdict import GENERAL, Counterfactual


def explain_verdict(head: Head) -> str:
    """Says what was decided about a head, measured how, and why not if it was held."""
    verdict = head.verdict
    against = (
        "the encoder alone" if verdict.incumbent == GENERAL else f"{verdict.incumbent}, then in use"
    )
    measured = (
        f"Measured against {against}, on {verdict.outcomes_count} outcomes that what was asked had "
        f"not learned from, with {verdict.seekers_count} seekers ranked: NDCG@10 "
        f"{verdict.challenger_quality.ndcg_at_10.mid:.4f} against "
        f"{verdict.incumbent_quality.ndcg_at_10.mid:.4f}."
    )
    if verdict.counterfactual is not None:
        measured = f"{measured} {_explored(verdict.counterfactual)}"
    if verdict.promoted:
        return f"Promoted: it passed every rule of the gate. {measured}"
    if verdict.rollout_id:
        return f"In {verdict.rollout_id}: {' '.join(verdict.reasons)} {measured}"
    return f"Held: {' '.join(verdict.reasons)} {measured}"


def _explored(found: Counterfactual) -> str:
    challenger, incumbent = found.challenger.dr.mid, found.incumbent.dr.mid
    difference = found.difference.dr
    return (
        f"On {found.matches_count} matches shown meanwhile, {found.explored_count} of them in a "
        f"random order, its own order would have brought {challenger:.4f} discounted accepted "
        f"outcomes a match against {incumbent:.4f}: {difference.mid:+.4f} [{difference.low:+.4f}, "
        f"{difference.high:+.4f}], doubly robust."
    )

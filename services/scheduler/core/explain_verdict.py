"""A verdict in a sentence or two, for people who did not train the head."""

from services.scheduler.core.head import Head
from services.scheduler.core.verdict import GENERAL


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
    if verdict.promoted:
        return f"Promoted: it passed every rule of the gate. {measured}"
    if verdict.rollout_id:
        return f"In {verdict.rollout_id}: {' '.join(verdict.reasons)} {measured}"
    return f"Held: {' '.join(verdict.reasons)} {measured}"

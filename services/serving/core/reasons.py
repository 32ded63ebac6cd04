"""Reasons in words: short sentences about what raises a score, made of what is known and true."""

from services.serving.core.explain_matches import (
    CANDIDATE_OUTCOMES,
    CLOSENESS,
    FIELD,
    HISTORY,
    Contribution,
    Explanation,
)
from services.serving.core.facts import Facts, Value

REASONS_MAX = 3
CONTRIBUTION_MIN = 0.05
"""On the scale of the contributions. What adds less is no reason."""

LIKELY = 0.5


def write_reasons(
    explanation: Explanation, seeker: Facts, candidate: Facts, back: Explanation | None = None
) -> list[str]:
    """At most three sentences, the weightiest first; none when nothing raises the score.

    `back` is the candidate's side of it: that they are likely to say yes is reason enough to come
    first.
    """
    sentences = (
        _sentence(contribution, explanation, seeker, candidate)
        for contribution in explanation.contributions
        if contribution.value >= CONTRIBUTION_MIN
    )
    found = [sentence for sentence in sentences if sentence]
    if back is not None and back.score >= LIKELY:
        found.insert(0, f"They are likely to say yes to the seeker as well ({back.score:.2f}).")
    return found[:REASONS_MAX]


def _sentence(
    contribution: Contribution, explanation: Explanation, seeker: Facts, candidate: Facts
) -> str:
    """Empty where there is nothing to be said of the candidate."""
    source, name = contribution.source, contribution.field
    if source == FIELD and name in candidate:
        shared = ", which the seeker shares," if seeker.get(name) == candidate[name] else ""
        return f"Their {name} ({_text(candidate[name])}){shared} raises the score."
    if source == CANDIDATE_OUTCOMES and explanation.outcomes.received:
        yes, count = explanation.outcomes.received_positive, explanation.outcomes.received
        return f"{yes} of {count} outcomes about them were a yes."
    if source == HISTORY and explanation.outcomes.given_positive:
        return "They go well with those whom the seeker has said yes to."
    if source == CLOSENESS:
        return f"Their closeness to the seeker (cosine {explanation.cosine:.2f}) raises the score."
    return ""


def _text(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else f"{value:.10g}"

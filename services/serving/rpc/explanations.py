"""Explanations on their way to the wire."""

import numpy as np
from trine.serving.v1 import explanation_pb2, match_service_pb2

from services.serving.core.explain_matches import Explanation, explain_matches
from services.serving.core.facts import read_facts
from services.serving.core.find_matches import MatchResult
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.reasons import write_reasons


def explain(
    response: match_service_pb2.FindMatchesResponse, served: ServedDomain, result: MatchResult
) -> None:
    """Adds explanations and reasons to an answer. Work for a thread."""
    rows = np.concatenate([[result.seeker], result.rows])
    seeker, *candidates = read_facts(served.partition, result.view, rows)
    explanations = explain_matches(served, result)
    for match, explanation, facts in zip(response.matches, explanations, candidates, strict=True):
        match.explanation.CopyFrom(_to_proto(explanation))
        match.reasons.extend(write_reasons(explanation, seeker, facts))


def _to_proto(explanation: Explanation) -> explanation_pb2.Explanation:
    return explanation_pb2.Explanation(
        score=explanation.score,
        link=explanation.link,
        base=explanation.base,
        contributions=[
            explanation_pb2.Explanation.Contribution(source=c.source, field=c.field, value=c.value)
            for c in explanation.contributions
        ],
        outcomes=explanation_pb2.Explanation.Outcomes(**explanation.outcomes._asdict()),
    )

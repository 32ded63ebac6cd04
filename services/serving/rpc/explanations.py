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
    forward = explain_matches(served, result)
    back = explain_matches(served, result, back=True)
    for place, (match, facts) in enumerate(zip(response.matches, candidates, strict=True)):
        match.explanation.CopyFrom(_to_proto(forward[place]))
        if back:
            match.explanation_back.CopyFrom(_to_proto(back[place]))
        theirs = back[place] if back else None
        match.reasons.extend(write_reasons(forward[place], seeker, facts, theirs))


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

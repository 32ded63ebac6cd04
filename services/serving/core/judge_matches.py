"""The last stage, off by default: a language model reads the best candidates and scores them.

It decides about a handful of people and has a deadline. Whatever goes wrong, the order so far
stands, and the answer says why.
"""

import math
import time
from collections.abc import Sequence

import numpy as np

from services.serving.core.errors import JudgeFailedError
from services.serving.core.facts import read_facts
from services.serving.core.find_matches import MatchResult
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.ports import Judge
from services.serving.core.stages import JUDGE, StageOptions


async def judge_matches(
    judge: Judge, served: ServedDomain, result: MatchResult, options: StageOptions, limit: int
) -> MatchResult:
    """The same people in the judge's order; in the order so far if the judge fails."""
    if not len(result.rows):
        return result
    started = time.perf_counter()
    rows = np.concatenate([[result.seeker], result.rows])
    seeker, *candidates = read_facts(served.partition, result.view, rows)
    try:
        scores = _checked(await judge.score(seeker, candidates), len(candidates))
    except JudgeFailedError as error:
        judged = result.pick(np.arange(min(limit, len(result.rows))))
        judged.judge_failure = str(error)
    else:
        order = np.argsort(-scores, kind="stable")  # equal scores keep the order so far
        order = order[scores[order] >= options.min_score]
        judged = result.pick(order[:limit])
        judged.stage_scores[JUDGE] = scores[order[:limit]]
        judged.counts[JUDGE] = len(order)
    judged.seconds[JUDGE] = time.perf_counter() - started
    return judged


def _checked(scores: Sequence[object], count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    if len(scores) != count:
        raise JudgeFailedError(f"answered {len(scores)} scores for {count} candidates")
    for score in scores:
        number = isinstance(score, int | float) and not isinstance(score, bool)
        if not number or not math.isfinite(score) or not 0 <= score <= 1:  # type: ignore[arg-type, operator]
            raise JudgeFailedError("answered a score that is no number from 0 to 1")
    return np.array(scores, np.float64)

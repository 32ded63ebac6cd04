"""Which head a run gives: the one learned from everything, if it is like the twins that are judged.

Otherwise, or if the run is stopped, it is one that has learned from nothing the gate asks, and is
asked itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from services.trainer.core.ports import Evaluation, ScoredPages
from services.trainer.learning.gate_scores import Answer, Evidence, Incumbent
from services.trainer.learning.page_scores import gather_pages, join_pages
from services.trainer.learning.ranker import Ranker
from services.trainer.learning.snapshot import Snapshot
from services.trainer.learning.stages import Found, Stages

RANKED_MIN = 2
"""Scores that can be in another order."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What is exported, and how the gate may ask about it."""

    ranker: Ranker
    twins: Sequence[Ranker]
    """One a fold, or one for all; none if it is asked itself."""
    evidence: Sequence[Evidence]
    answers: Sequence[Answer]
    """Of whom the gate asks, one a fold."""
    agreement: float

    def evaluate(self, snapshot: Snapshot, incumbent: Incumbent | None) -> Evaluation:
        """Scores for the gate; no incumbent is the encoder alone."""
        theirs = [
            evidence.asked.cosines[:, 0].cpu().numpy()
            if incumbent is None
            else incumbent.score(evidence, answer)
            for evidence, answer in zip(self.evidence, self.answers, strict=True)
        ]
        return Evaluation(
            seekers=torch.cat([e.asked.seekers for e in self.evidence]).int().cpu().numpy(),
            levels=torch.cat([e.levels for e in self.evidence]).int().cpu().numpy(),
            challenger_scores=torch.cat([a.scores for a in self.answers]).cpu().numpy(),
            incumbent_scores=np.concatenate(theirs),
            incumbent_calibrated=incumbent is not None,
            pages=self._pages(snapshot, incumbent),
        )

    def _pages(self, snapshot: Snapshot, incumbent: Incumbent | None) -> ScoredPages | None:
        parts = []
        for evidence, answer in zip(self.evidence, self.answers, strict=True):
            theirs = (
                evidence.shown.cosines[:, 0].cpu().numpy()  # the same both ways
                if incumbent is None
                else incumbent.score_shown(evidence, answer)
            )
            ours = answer.shown.float().cpu().numpy()
            parts.append(gather_pages(snapshot, evidence.fold.slots, ours, theirs))
        return join_pages(parts)


def settle(
    stages: Stages,
    found: Found,
    evidence: Sequence[Evidence],
    *,
    everything: Tensor,
    known: list[Tensor],
    agreement_min: float,
) -> Judged:
    """Learns the head and its twins, each of these from one of the `known` parts."""
    whole = stages.learn("whole", everything, found)
    twins = stages.learn_each("twin", known, found)
    if whole is not None and twins is not None:
        answers = _ask(twins, evidence)
        agreement = _agreement(answers, _ask([whole], evidence))
        if agreement >= agreement_min:
            return Judged(whole, twins, evidence, answers, agreement)
    lone = stages.learn_lone(found)
    return Judged(lone, (), evidence, _ask([lone], evidence), 1.0)


def _ask(rankers: Sequence[Ranker], evidence: Sequence[Evidence]) -> list[Answer]:
    """Asks each ranker about its fold, or one about all."""
    asked = rankers if len(rankers) == len(evidence) else [rankers[0]] * len(evidence)
    return [each.ask(ranker) for each, ranker in zip(evidence, asked, strict=True)]


def _agreement(left: Sequence[Answer], right: Sequence[Answer]) -> float:
    """Spearman's rank correlation; scores that are all equal agree with such."""
    scores = [torch.cat([answer.scores for answer in answers]) for answers in (left, right)]
    if len(scores[0]) < RANKED_MIN:
        return 1.0
    ranks = [torch.argsort(torch.argsort(each, stable=True)).double() for each in scores]
    return float(torch.corrcoef(torch.stack(ranks))[0, 1])

"""A head that likes ages, people as old as their numbers, and requests for matches."""

import numpy as np

from services.serving.core.candidates import Floats
from services.serving.core.find_matches import MatchRequest
from services.serving.core.loaded_head import LoadedHead, ServedDomain
from services.serving.core.stages import read_stages
from tests.support.candidates import partition, rows, served


class AgeScorers:
    """Likes the old in the linear stage and the young in the cross stage; maps queries to -v."""

    def map_query(self, columns_c: Floats, vector_d: Floats) -> Floats:
        mapped: Floats = np.negative(vector_d)
        return mapped

    def describe(self, columns_nc: Floats, counts_n4: Floats, table_n2: Floats) -> Floats:
        return np.stack([columns_nc[:, 0], counts_n4[:, 0], table_n2[:, 0]], axis=1)

    def score_light(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        ages: Floats = candidates_nk[:, 0]
        return ages

    def score_cross(self, seekers: Floats, candidates_nk: Floats, cosines_n: Floats) -> Floats:
        assert len(cosines_n) == len(candidates_nk)
        score: Floats = (1 / (1 + candidates_nk.sum(axis=1))).astype(np.float32)
        return score


AGE_HEAD = LoadedHead(
    head="u_acme.dating.2026-05-17.001",
    tier="tenant",
    scorers=AgeScorers(),
    columns=np.array([0], np.intp),
    table=np.zeros((1, 2), np.float32),
)


def domain(count: int, head: LoadedHead | None = None) -> ServedDomain:
    """People u0, u1 and so on, as old as their numbers."""
    return served(partition(rows(list(range(count)), age=[float(i) for i in range(count)])), head)


def request(user_id: str = "u0", limit: int = 5, **stages: object) -> MatchRequest:
    """A request without filters."""
    return MatchRequest(user_id=user_id, conditions=[], stages=read_stages(stages), limit=limit)

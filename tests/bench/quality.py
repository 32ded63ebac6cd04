"""Learning quality through the mesh on the speed-dating data: python -m tests.bench.quality.

Each fold is a reciprocal domain of its own: people and training outcomes come in over REST, a run
trains, and every held-out meeting is scored by POST /v1/match with the head that the gate let
through: `match` by the answer's score, `dec` by what the cross stage says of the seeker's way.
Folds: cold holds out whole events (event - 1) mod 7; warm holds out half of the pairs by their
hash. Plain models are fitted to the same meetings and measured beside.
"""

import asyncio
import hashlib
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.mesh.client import Client, open_client
from services.mesh.speed_dating import Meeting, event_name, read_meetings, read_people, schema
from tests.bench import baselines
from tests.support.mesh import running_mesh

BATCH = 500
DRAWS = 1_000
SEED = 7
Scores = NDArray[np.float64]
Metrics = tuple[float, float, float]


def cold_fold(meeting: Meeting) -> int:
    """The fold in which nobody of the meeting's event was seen in training."""
    return (meeting.wave - 1) % 7


def warm_fold(meeting: Meeting) -> int:
    """The half that both directions of a pair fall into."""
    return pair_hash(meeting) % 2


def pair_hash(meeting: Meeting) -> int:
    """A number that is the same both ways."""
    first, second = sorted((int(meeting.seeker[1:]), int(meeting.candidate[1:])))
    return int(hashlib.sha256(f"{first}-{second}".encode()).hexdigest()[:8], 16)


async def score_fold(client: Client, domain: str, train: list[Meeting], test: list[Meeting]) -> Any:
    """Scores of the test meetings by the general tier and after a run, and the run."""
    await client.call("PUT", "/v1/schema", schema(domain) | {"reciprocal": True})
    people = {person.user_id: person for person in read_people()}
    users = (person.user(domain) for person in people.values())
    await client.call_all("POST", "/v1/users", users, lambda: None)
    for start in range(0, len(train), BATCH):
        items = [meeting.item() for meeting in train[start : start + BATCH]]
        await client.call("POST", "/v1/feedback", {"domain": domain, "items": items})
    await asyncio.sleep(1)  # a person is matchable within a second

    async def score() -> Scores:
        scores = np.zeros((2, len(test)))
        for seeker in sorted({meeting.seeker for meeting in test}):
            person = people[seeker]
            filters = {"event": event_name(person.wave), "gender": {"not": person.gender}}
            body = {"user_id": seeker, "domain": domain, "limit": 100, "filters": filters}
            answer = await client.call("POST", "/v1/match", body)
            found = {match["user_id"]: _both(match) for match in answer["matches"]}
            for row, meeting in enumerate(test):
                if meeting.seeker == seeker:
                    scores[:, row] = found[meeting.candidate]
        return scores

    before = await score()
    answer = await client.call("POST", "/v1/train", {"domain": domain, "force": True})
    while True:
        run = await client.call("GET", f"/v1/runs/{answer['run_id']}")
        if run["status"] in {"succeeded", "failed", "cancelled"}:
            break
        await asyncio.sleep(0.2)
    await asyncio.sleep(2)  # a promoted head is loaded
    return before, await score(), run


def _both(match: Any) -> tuple[float, float]:
    """How much the seeker is for it, and both: the general tier's cosine is for both ways."""
    joint: float = match["score"]
    return match["stage_scores"].get("cross_encoder_forward", joint), joint


def auc(scores: Scores, yes: NDArray[np.bool_]) -> float:
    """Area under the curve; a tie counts half."""
    ranks = np.unique(scores, return_inverse=True, return_counts=True)
    ends = np.cumsum(ranks[2])
    middle = ends[ranks[1]] - (ranks[2][ranks[1]] - 1) / 2
    positives = int(yes.sum())
    negatives = len(yes) - positives
    if not positives or not negatives:
        return float("nan")
    return float((middle[yes].sum() - positives * (positives + 1) / 2) / (positives * negatives))


def ndcg_at_5(scores: Scores, yes: NDArray[np.bool_], tie: Scores) -> float:
    """NDCG@5 of one person; not a number without a yes."""
    if not yes.any():
        return float("nan")
    discounts = 1 / np.log2(np.arange(2, 7))
    found = yes[np.lexsort((tie, -scores))][:5].astype(float)
    ideal = np.sort(yes)[::-1][:5].astype(float)
    length = len(found)
    return float((found * discounts[:length]).sum() / (ideal * discounts[:length]).sum())


class Table:
    """Scored meetings, ready to be measured whole and in draws of events."""

    def __init__(
        self, meetings: list[Meeting], folds: NDArray[np.int_], label: NDArray[np.bool_]
    ) -> None:
        self._waves = np.array([meeting.wave for meeting in meetings])
        self._folds = folds
        self._label = label
        # A person is judged inside each fold: the folds' scores come from different heads.
        seekers = np.array([meeting.seeker for meeting in meetings])
        person = np.unique(np.char.add(seekers, folds.astype(str)), return_inverse=True)[1]
        order = np.argsort(person, kind="stable")
        self._people = np.split(order, np.flatnonzero(np.diff(person[order])) + 1)
        self._tie = np.random.default_rng(SEED).random(len(meetings))

    def measure(self, scores: Scores) -> list[str]:
        """AUC, AUC per person and NDCG@5, each with its 95 % interval over events."""
        waves = np.array([self._waves[person[0]] for person in self._people])
        quality = np.array([self._quality(scores, person) for person in self._people])
        every = np.unique(waves)
        people = {wave: quality[waves == wave] for wave in every}
        rows = {wave: np.flatnonzero(self._waves == wave) for wave in every}

        def metrics(drawn: NDArray[Any]) -> Metrics:
            chosen = np.concatenate([rows[wave] for wave in drawn])
            inside = [chosen[self._folds[chosen] == f] for f in np.unique(self._folds[chosen])]
            pooled = np.mean([auc(scores[i], self._label[i]) for i in inside])
            mean = np.nanmean(np.concatenate([people[wave] for wave in drawn]), axis=0)
            return float(pooled), float(mean[0]), float(mean[1])

        draw = np.random.default_rng(SEED)
        draws = np.array([metrics(draw.choice(every, len(every))) for _ in range(DRAWS)])
        low, high = np.percentile(draws, (2.5, 97.5), axis=0)
        cells = zip(metrics(every), low, high, strict=True)
        return [f"{mid:.3f} [{a:.3f}, {b:.3f}]" for mid, a, b in cells]

    def _quality(self, scores: Scores, rows: NDArray[np.int_]) -> tuple[float, float]:
        """AUC and NDCG@5 of one person."""
        yes = self._label[rows]
        return auc(scores[rows], yes), ndcg_at_5(scores[rows], yes, self._tie[rows])


async def measure(
    client: Client, kind: str, fold_of: Callable[[Meeting], int]
) -> list[tuple[str, list[str]]]:
    """Rows of the table: the tenant's heads, the general tier and plain models, for each label."""
    meetings = read_meetings()
    folds = np.array([fold_of(meeting) for meeting in meetings])
    before, after = np.zeros((2, len(meetings))), np.zeros((2, len(meetings)))
    for fold in np.unique(folds):
        held = np.flatnonzero(folds == fold)
        train = [meetings[row] for row in np.flatnonzero(folds != fold)]
        test = [meetings[row] for row in held]
        scored = await score_fold(client, f"{kind}-{fold}", train, test)
        before[:, held], after[:, held], run = scored
        print(f"{kind} {fold}: {run['status']}, {run['verdict']['result']}", flush=True)
    place = {(meeting.seeker, meeting.candidate): row for row, meeting in enumerate(meetings)}
    back = np.array([place[m.candidate, m.seeker] for m in meetings])
    yes = np.array([meeting.yes for meeting in meetings])
    dec, match = Table(meetings, folds, yes), Table(meetings, folds, yes & yes[back])
    rows = [
        (f"{kind} `dec`, **tenant tier**", dec.measure(after[0])),
        (f"{kind} `dec`, general tier", dec.measure(before[0])),
    ]
    plain = measure_plain(kind, meetings, folds)
    rows += [(f"{kind} `dec`, {name}", dec.measure(scores)) for name, scores in plain.items()]
    rows.append((f"{kind} `match`, **tenant tier**, reciprocal", match.measure(after[1])))
    for name, scores in plain.items():
        chances = 1 / (1 + np.exp(-scores))
        rows.append((f"{kind} `match`, product of {name}", match.measure(chances * chances[back])))
    return rows


def measure_plain(kind: str, meetings: list[Meeting], folds: NDArray[np.int_]) -> dict[str, Scores]:
    """Logits of the held-out meetings by plain models."""
    waves = np.array([meeting.wave for meeting in meetings])
    inner = waves if kind == "cold" else np.array([pair_hash(m) // 2 for m in meetings])
    arrays = baselines.read(read_people(), meetings, inner)
    models = {"logistic regression": baselines.logistic}
    if kind == "warm":
        models |= {
            "popularity": baselines.popularity,
            "person effects": baselines.person_effects,
            "logistic and person effects": baselines.logistic_with_effects,
        }
    scores = {name: np.zeros(len(meetings)) for name in models}
    for name, model in models.items():
        for fold in np.unique(folds):
            test = np.flatnonzero(folds == fold)
            scores[name][test] = model(arrays, np.flatnonzero(folds != fold), test)
    return scores


async def main() -> None:
    """Prints the table as Markdown."""
    with (
        tempfile.TemporaryDirectory(prefix="trine-quality-") as folder,
        running_mesh(Path(folder), TRINE_TRIPLETS_BUDGET="1000000") as mesh,
    ):
        async with open_client(mesh.told["rest"], mesh.told["api_key"]) as client:
            rows = await measure(client, "warm", warm_fold)
            rows += await measure(client, "cold", cold_fold)
    print("\n| task | AUC | AUC per person | NDCG@5 |\n|---|---|---|---|")
    for name, cells in rows:
        print(f"| {name} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    asyncio.run(main())

"""A catalogue through the mesh: top 10 of MovieLens, python -m tests.bench.movielens --data FOLDER.

Every rating is a yes. People, films and training ratings are imported, a run trains, and POST
/v1/match answers everyone with ten films that they have not had. Splits: `random` keeps 80 % of the
rows, `lastout` holds each person's last rating out. EASE and iALS, tuned on validation rows, rank
the same catalogue in this process. The data is not part of the project: its licence forbids that.
"""

import argparse
import csv
import datetime
import gzip
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from services.mesh.client import Json
from tests.support.mesh import Mesh, running_mesh, until

RANKS = 10
ABSENT = "MovieLens is not there: --data FOLDER must hold ratings.csv(.gz) of ml-latest-small."
EASE_RIDGES = (50.0, 100.0, 200.0, 300.0, 500.0, 800.0)
IALS_GRID = tuple((factors, ridge) for factors in (32, 64, 128) for ridge in (1.0, 10.0, 50.0))
ITERATIONS = 15
RUN_SECONDS_MAX = 1_200
Rows = NDArray[np.int64]
Scores = NDArray[np.float32]


class Ratings:
    """Who rated what and when, people and films numbered from 0."""

    def __init__(self, folder: Path) -> None:
        packed = folder / "ratings.csv.gz"
        plain = folder / "ratings.csv"
        with gzip.open(packed, "rt") if packed.exists() else plain.open() as file:
            read = [(r["userId"], r["movieId"], r["timestamp"]) for r in csv.DictReader(file)]
        table = np.array(read, np.int64)
        self.people = np.unique(table[:, 0], return_inverse=True)[1]
        self.films = np.unique(table[:, 1], return_inverse=True)[1]
        self.seconds = table[:, 2]
        self.shape = int(self.people.max()) + 1, int(self.films.max()) + 1

    def matrix(self, rows: Rows) -> Scores:
        """1 where somebody rated a film."""
        found = np.zeros(self.shape, np.float32)
        found[self.people[rows], self.films[rows]] = 1
        return found

    def random(self, rows: Rows, seed: int) -> tuple[Rows, Rows]:
        """80 % of some rows, and the rest."""
        order = np.random.default_rng(seed).permutation(len(rows))
        cut = int(0.8 * len(rows))
        return rows[order[:cut]], rows[order[cut:]]

    def lastout(self, rows: Rows, seed: int = 0) -> tuple[Rows, Rows]:
        """All but the last rating of each person, and those."""
        del seed  # nothing is drawn
        order = rows[np.lexsort((self.films[rows], self.seconds[rows], self.people[rows]))]
        last = np.append(np.diff(self.people[order]) > 0, True)
        return order[~last], order[last]


def measure(top: NDArray[np.int64], ratings: Ratings, test: Rows) -> tuple[float, float]:
    """NDCG@10 and Recall@10 of ten films a person, over those with test films."""
    wanted = ratings.matrix(test) > 0
    some = wanted.any(1)
    found = np.take_along_axis(wanted, np.maximum(top, 0), 1)[some] & (top[some] >= 0)
    totals = wanted.sum(1)[some]
    discounts = 1 / np.log2(np.arange(RANKS) + 2)
    ideal = np.cumsum(discounts)[np.minimum(totals, RANKS) - 1]
    return float(((found * discounts).sum(1) / ideal).mean()), float((found.sum(1) / totals).mean())


def best_ten(scores: Scores, known: Scores) -> NDArray[np.int64]:
    """The ten best films of each person that are not known."""
    left = np.where(known > 0, -np.inf, scores)
    return np.argsort(-left, axis=1, kind="stable")[:, :RANKS]


def ease(ridge: float, known: Scores) -> Scores:
    """EASE (Steck 2019), whole: its inverse comes from the few people's matrix (Woodbury)."""
    values, vectors = np.linalg.eigh((known @ known.T).astype(np.float64))
    values, vectors = values[values > 1e-6], vectors[:, values > 1e-6]
    basis = (vectors.T @ known) / np.sqrt(values)[:, np.newaxis]
    filtered = values / (values + ridge)
    scores: Scores = ((known @ basis.T) * filtered) @ basis / (1 - filtered @ basis**2)
    return scores


def ials(factors: int, ridge: float, known: Scores) -> Scores:
    """Implicit ALS (Hu, Koren and Volinsky 2008)."""
    from implicit.als import AlternatingLeastSquares  # noqa: PLC0415  # the bench's extra alone
    from scipy.sparse import csr_matrix  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    model = AlternatingLeastSquares(
        factors=factors,
        regularization=ridge,
        iterations=ITERATIONS,
        random_state=0,
        num_threads=1,
    )
    with threadpool_limits(1, "blas"):
        model.fit(csr_matrix(known), show_progress=False)
    scores: Scores = model.user_factors @ model.item_factors.T
    return scores


def tune(
    ratings: Ratings,
    parts: tuple[Rows, Rows],
    split: Callable[[Rows, int], tuple[Rows, Rows]],
    makes: Mapping[str, Callable[[Scores], Scores]],
) -> tuple[str, tuple[float, float]]:
    """The best of some models by validation rows, and what it reaches on the test rows."""
    train, test = parts
    fitted, validation = split(train, 1)
    known = ratings.matrix(fitted)
    gained = {
        name: measure(best_ten(make(known), known), ratings, validation)[0]
        for name, make in makes.items()
    }
    best = max(gained, key=gained.__getitem__)
    known = ratings.matrix(train)
    return best, measure(best_ten(makes[best](known), known), ratings, test)


def match_all(mesh: Mesh, ratings: Ratings, train: Rows, domain: str) -> NDArray[np.int64]:
    """Ten films for everyone by the mesh: people in, ratings in, a run, a match each."""
    fields = [{"name": "kind", "kind": "hard", "type": "enum", "members": ["person", "film"]}]
    mesh.call("PUT", "/v1/schema", {"domain": domain, "fields": fields})
    with tempfile.TemporaryDirectory(prefix="trine-movielens-") as folder:
        people = Path(folder) / "people.csv"
        with people.open("w") as file:
            file.write("user_id,kind\n")
            file.writelines(f"p{number},person\n" for number in range(ratings.shape[0]))
            file.writelines(f"f{number},film\n" for number in range(ratings.shape[1]))
        _import(mesh, "users", people, domain)
        outcomes = Path(folder) / "outcomes.csv"
        with outcomes.open("w") as file:
            file.write("seeker_id,candidate_id,outcome,occurred_at\n")
            for row in train.tolist():
                moment = datetime.datetime.fromtimestamp(ratings.seconds[row], datetime.UTC)
                pair = f"p{ratings.people[row]},f{ratings.films[row]}"
                file.write(f"{pair},accepted,{moment.isoformat()}\n")
        _import(mesh, "outcomes", outcomes, domain)
    run_id = mesh.call("POST", "/v1/train", {"domain": domain, "force": True})["run_id"]
    run = mesh.ended(run_id, RUN_SECONDS_MAX)
    print(f"{domain}: {run['status']}, {run['verdict']['result']}", flush=True)
    body: Json = {
        "domain": domain,
        "limit": RANKS,
        "exclude_seen": True,
        "filters": {"kind": "film"},
    }

    def ask(person: int) -> Json:
        return mesh.call("POST", "/v1/match", {**body, "user_id": f"p{person}"})

    until(lambda: "light_ml" in ask(0)["models_used"] or None)  # the head is in use
    top = np.full((ratings.shape[0], RANKS), -1, np.int64)
    for person in range(ratings.shape[0]):
        films = [int(match["user_id"][1:]) for match in ask(person)["matches"]]
        top[person, : len(films)] = films
    return top


def _import(mesh: Mesh, what: str, file: Path, domain: str) -> None:
    command = [str(Path(sys.executable).parent / "trine"), "import", what, str(file)]
    place = ["--domain", domain, "--url", mesh.told["rest"], "--key", mesh.told["api_key"]]
    subprocess.run([*command, *place], check=True, stdout=subprocess.DEVNULL)


def compare(mesh: Mesh, ratings: Ratings, kind: str) -> Iterator[tuple[str, tuple[float, float]]]:
    """Rows of the table for one split, as they are found."""
    every = np.arange(len(ratings.people))
    split = ratings.random if kind == "random" else ratings.lastout
    train, test = parts = split(every, 0)
    known = ratings.matrix(train)
    popular = np.tile(known.sum(0), (len(known), 1))
    yield "popularity", measure(best_ten(popular, known), ratings, test)
    yield tune(ratings, parts, split, {f"EASE, ridge {r:g}": partial(ease, r) for r in EASE_RIDGES})
    grid = {f"iALS, {f} factors, ridge {r:g}": partial(ials, f, r) for f, r in IALS_GRID}
    yield tune(ratings, parts, split, grid)
    yield "Trine", measure(match_all(mesh, ratings, train, kind), ratings, test)


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description="Top 10 of MovieLens through the mesh.")
    parser.add_argument("--data", type=Path, help="folder of ml-latest-small")
    folder = parser.parse_args().data
    if folder is None or not any((folder / f"ratings.csv{end}").exists() for end in ("", ".gz")):
        print(ABSENT)
        return
    ratings = Ratings(folder)
    print("| split | ranked by | NDCG@10 | Recall@10 |\n|---|---|---|---|", flush=True)
    with (
        tempfile.TemporaryDirectory(prefix="trine-movielens-") as home,
        running_mesh(Path(home), TRINE_TRIPLETS_BUDGET="100000000") as mesh,
    ):
        for kind in ("random", "lastout"):
            for name, (ndcg, recall) in compare(mesh, ratings, kind):
                print(f"| {kind} | {name} | {ndcg:.4f} | {recall:.4f} |", flush=True)


if __name__ == "__main__":
    main()

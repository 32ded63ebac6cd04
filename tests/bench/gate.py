"""How often the gate is right: python -m tests.bench.gate [--domains 25].

In each of 100 made-up domains one head learns as the domain was when ages attracted the other way,
and another from the domain as it is, each as in a run. Real improvements: a first head against the
encoder alone; the head of today against the one of before. Planted regression: the head of before
asks for the place of today's. Nothing new: a head learned again, with another seed, from the very
same outcomes.
"""

import argparse
from multiprocessing import get_context

import numpy as np
from safetensors.numpy import load

from services.scheduler.core.verdict import Evaluation, Verdict, judge
from services.trainer.core import ports
from services.trainer.core.watch import Watch
from services.trainer.learning.learner import TorchLearner, Training
from services.trainer.learning.snapshot import read_snapshot
from tests.support.snapshots import COLUMNS, pack, snapshot

DOMAINS = 100
PROCESSES = 2
PEOPLE = 300
PARTNERS = 16
TASTE = 1.0
AGE = 0


def before(content: bytes) -> bytes:
    """The same domain with every age on the other side of the mean."""
    arrays = load(content)
    columns = arrays["columns"].copy()
    columns[:, AGE] *= -1
    return pack(
        columns,
        arrays["vectors"],
        arrays["seekers"],
        arrays["candidates"],
        arrays["levels"],
        seconds=arrays["times"] // 1_000_000,
        columns=COLUMNS,
    )


def verdict(found: ports.Evaluation, seed: int, *, swapped: bool = False) -> Verdict:
    """The gate's word; swapped, the incumbent asks for the challenger's place."""
    scores = (found.challenger_scores, found.incumbent_scores)
    incumbent, challenger = scores if swapped else scores[::-1]
    evaluation = Evaluation(
        seekers=found.seekers,
        levels=found.levels,
        challenger_scores=challenger.astype(np.float64),
        incumbent_scores=incumbent.astype(np.float64),
        incumbent_calibrated=found.incumbent_calibrated,
    )
    return judge(evaluation, "incumbent", seed)


def evaluations(seed: int) -> dict[str, tuple[ports.Evaluation, bool]]:
    """What the gate is given in one domain, by kind; and whether the sides are swapped."""
    learner = TorchLearner("cpu")

    def train(content: bytes, seed: int) -> Training:
        return learner.train(read_snapshot(content), None, seed, Watch("", ""))

    today = snapshot(PEOPLE, PARTNERS, seed, taste=TASTE)
    old, new, again = train(before(today), seed), train(today, seed), train(today, seed + DOMAINS)
    first, changed = new.evaluate(None), new.evaluate(old.package()[0])
    return {
        "better: a first head": (first, False),
        "better: of today": (changed, False),
        "worse: of before": (changed, True),
        "nothing new": (again.evaluate(new.package()[0]), False),
    }


def verdicts(seed: int) -> dict[str, Verdict]:
    """The gate's word on each kind in one domain."""
    found = evaluations(seed).items()
    return {kind: verdict(each, seed, swapped=swapped) for kind, (each, swapped) in found}


def main() -> None:
    """Prints how many of each kind were promoted."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--domains", type=int, default=DOMAINS, help="the first so many")
    domains: int = parser.parse_args().domains
    by_kind: dict[str, list[Verdict]] = {}
    with get_context("spawn").Pool(PROCESSES) as pool:
        for done, found in enumerate(pool.imap(verdicts, range(domains)), 1):
            for kind, each in found.items():
                by_kind.setdefault(kind, []).append(each)
            print(f"\r{done} of {domains} domains", end="", flush=True)
    print("\n\n| the challenger | promoted | mean NDCG@10 gain |\n|---|---|---|")
    for kind, every in by_kind.items():
        promoted = sum(each.promoted for each in every)
        gains = [each.ndcg_at_10_gain.mid for each in every]
        print(f"| {kind} | {promoted} of {domains} | {np.mean(gains):+.3f} ± {np.std(gains):.3f} |")


if __name__ == "__main__":
    main()

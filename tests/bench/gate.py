"""How often the gate is right: python -m tests.bench.gate.

In each of 100 made-up domains one head learns as the domain was when ages attracted the other way,
and another from the domain as it is, each as in a run. Real improvements: a first head against the
encoder alone; the head of today against the one of before. Planted regression: the head of before
asks for the place of today's. Nothing new: a head learned again, with another seed, from the very
same outcomes.
"""

import numpy as np
from safetensors.numpy import load

from services.scheduler.core.verdict import Evaluation, Verdict, judge
from services.trainer.core import ports
from services.trainer.core.watch import Watch
from services.trainer.learning.learner import TorchLearner
from tests.support.snapshots import COLUMNS, pack, snapshot

DOMAINS = 100
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


def main() -> None:
    """Prints how many of each kind were promoted."""
    learner = TorchLearner("cpu")

    def learn(content: bytes, incumbent: ports.HeadFiles | None, seed: int) -> ports.LearnedHead:
        return learner.learn(content, incumbent, None, seed, Watch("", ""))

    verdicts: dict[str, list[Verdict]] = {}
    for seed in range(DOMAINS):
        today = snapshot(PEOPLE, PARTNERS, seed, taste=TASTE)
        old = learn(before(today), None, seed)
        first = learn(today, None, seed)
        new = learn(today, old.files, seed)
        again = learn(today, new.files, seed + DOMAINS)
        for kind, each in (
            ("better: a first head", verdict(first.evaluation, seed)),
            ("better: of today", verdict(new.evaluation, seed)),
            ("worse: of before", verdict(new.evaluation, seed, swapped=True)),
            ("nothing new", verdict(again.evaluation, seed)),
        ):
            verdicts.setdefault(kind, []).append(each)
        print(f"\r{seed + 1} of {DOMAINS} domains", end="", flush=True)
    print("\n\n| the challenger | promoted | mean NDCG@10 gain |\n|---|---|---|")
    for kind, every in verdicts.items():
        promoted = sum(each.promoted for each in every)
        gains = [each.ndcg_at_10_gain.mid for each in every]
        print(f"| {kind} | {promoted} of {DOMAINS} | {np.mean(gains):+.3f} ± {np.std(gains):.3f} |")


if __name__ == "__main__":
    main()

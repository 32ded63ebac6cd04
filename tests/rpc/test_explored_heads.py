"""A gate that is told of exploration: what it reads, refuses, and says of a head."""

import dataclasses
from collections.abc import AsyncIterator
from typing import Any

import pytest
from trine.scheduler.v1 import explored_pages_pb2 as pb
from trine.scheduler.v1 import head_service_pb2

from services.scheduler.core.counterfactual import ScoredPages, weigh_pages
from tests.support.explored import explored_pages
from tests.support.scheduler import Scheduler, open_service
from tests.support.server import ACME, refused


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_service() as opened:
        yield opened


def message(pages: ScoredPages) -> pb.ExploredPages:
    columns = {field.name: getattr(pages, field.name) for field in dataclasses.fields(pages)}
    return pb.ExploredPages(**{name: column.tolist() for name, column in columns.items()})


async def judged(scheduler: Scheduler, pages: pb.ExploredPages | None) -> Any:
    """The report on a head whose trainer sent the pages."""
    await scheduler.train(force=True)
    await scheduler.complete(await scheduler.lease(), pages=pages)
    (head, *_) = await scheduler.heads()
    request = head_service_pb2.GetHeadVerdictRequest(head=head.head)
    return await scheduler.heads_stub().GetHeadVerdict(request, metadata=ACME)


async def test_the_verdict_says_what_exploration_told(scheduler: Scheduler) -> None:
    pages, _, _ = explored_pages(0, challenger=2.0)
    expected = weigh_pages(pages)
    assert expected is not None
    report = await judged(scheduler, message(pages))
    found = report.verdict.counterfactual
    assert report.verdict.result == "promoted"
    assert (found.matches_count, found.explored_count) == (1_500, expected.explored_count)
    assert found.positives_count == expected.positives_count
    for name in ("challenger", "incumbent", "difference"):
        for kind in ("ips", "snips", "dr"):
            interval = getattr(getattr(found, name), kind)
            known = getattr(getattr(expected, name), kind)
            told = (interval.low, interval.mid, interval.high)
            assert told == pytest.approx((known.low, known.mid, known.high), abs=1e-6)
    rule = report.rules[-1]
    assert (rule.rule, rule.passed, rule.measured) == (
        "counterfactual",
        True,
        found.difference.dr.high,
    )
    assert f"against {found.incumbent.dr.mid:.4f}" in report.summary


async def test_a_head_that_exploration_finds_worse_is_held(scheduler: Scheduler) -> None:
    pages, _, _ = explored_pages(0, share=1.0, pages=4_000, challenger=-2.0, incumbent=2.0)
    report = await judged(scheduler, message(pages))
    assert report.verdict.result == "held"
    assert [rule.rule for rule in report.rules if not rule.passed] == ["counterfactual"]
    assert report.summary.startswith("Held: On 4000 matches")


async def test_without_exploration_nothing_is_said_of_it(scheduler: Scheduler) -> None:
    few, _, _ = explored_pages(0, pages=50)
    for pages in (None, message(few)):
        report = await judged(scheduler, pages)
        assert not report.verdict.HasField("counterfactual")
        assert "counterfactual" not in [rule.rule for rule in report.rules]
        assert "random order" not in report.summary


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("seekers", [0], ""),
        ("levels", [0], ""),
        ("slot_pages", [0, 0, 2, 2], ".slot_pages"),
        ("slot_pages", [1, 1, 0, 0], ".slot_pages"),
        ("slot_pages", [0, 0, 0, 0], ".slot_pages"),
        ("ranks", [1, 1, 1, 2], ".ranks"),
        ("ranks", [1, 3, 1, 2], ".ranks"),
        ("propensities", [0.0, 1.0, 1.0, 1.0], ".propensities"),
        ("propensities", [1.5, 1.0, 1.0, 1.0], ".propensities"),
        ("propensities", [float("nan"), 1.0, 1.0, 1.0], ".propensities"),
        ("levels", [0, 0, 0, 4], ".levels"),
        ("levels", [0, 0, 0, -2], ".levels"),
        ("challenger_scores", [0.0, 0.0, 0.0, float("inf")], ""),
    ],
)
async def test_pages_that_do_not_fit_are_refused(
    scheduler: Scheduler, field: str, value: list[float], named: str
) -> None:
    good = pb.ExploredPages(
        seekers=[0, 1],
        explored=[True, False],
        slot_pages=[0, 0, 1, 1],
        ranks=[2, 1, 1, 2],
        propensities=[0.5, 0.5, 1.0, 1.0],
        levels=[-1, 2, 0, 3],
        challenger_scores=[0.1, 0.2, 0.3, 0.4],
        incumbent_scores=[0.1, 0.2, 0.3, 0.4],
    )
    await scheduler.train(force=True)
    leased = await scheduler.lease()
    wrong = pb.ExploredPages()
    wrong.CopyFrom(good)
    wrong.ClearField(field)  # type: ignore[arg-type]  # one of its names
    getattr(wrong, field).extend(value)
    refusal = await refused(scheduler.complete(leased, pages=wrong))
    assert refusal.reason == "FIELD_INVALID"
    assert refusal.metadata["field"] == f"evaluation.pages{named}"
    await scheduler.complete(leased, pages=good)

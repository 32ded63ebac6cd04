"""What can be read of a head: itself, the gate's report, its difference from another, its pin."""

from collections.abc import AsyncIterator

import pytest
from trine.scheduler.v1 import head_service_pb2 as pb

from tests.support.scheduler import DIGEST, MANIFEST, Scheduler, open_service
from tests.support.server import ACME, OTHER, refused

FIRST, SECOND = (f"u_acme.dating.2026-05-17.00{number}" for number in (1, 2))


@pytest.fixture
async def scheduler() -> AsyncIterator[Scheduler]:
    async with open_service() as opened:
        yield opened


async def test_a_head_is_read_by_its_version_alone(scheduler: Scheduler) -> None:
    run_id = await scheduler.trained()
    head = await scheduler.heads_stub().GetHead(pb.GetHeadRequest(head=FIRST), metadata=ACME)
    assert [head] == await scheduler.heads()
    assert (head.run_id, head.promoted, head.verdict.result) == (run_id, True, "promoted")


async def test_the_gates_report_names_every_rule_and_what_was_measured(
    scheduler: Scheduler,
) -> None:
    await scheduler.trained()
    await scheduler.trained(better=False)
    good, bad = [
        await scheduler.heads_stub().GetHeadVerdict(
            pb.GetHeadVerdictRequest(head=head), metadata=ACME
        )
        for head in (FIRST, SECOND)
    ]
    assert [rule.rule for rule in good.rules] == ["seekers", "ndcg_at_10", "auc", "calibration"]
    assert all(rule.passed for rule in good.rules)
    assert good.summary.startswith("Promoted: it passed every rule of the gate. Measured against")
    assert "the encoder alone" in good.summary
    assert good.verdict.result == "promoted"
    assert (bad.head, bad.domain, bad.run_id) == (SECOND, "dating", "tr_2026_05_17_002")
    failed = [rule for rule in bad.rules if not rule.passed]
    assert [rule.sentence for rule in failed] == list(bad.verdict.reasons)
    assert {rule.rule for rule in failed} >= {"ndcg_at_10", "auc"}
    assert all(rule.measured < rule.limit for rule in failed if rule.rule != "calibration")
    assert bad.summary.startswith(f"Held: {bad.verdict.reasons[0]}")
    assert FIRST in bad.summary


async def test_a_head_names_its_origin_and_its_ancestors_up_to_general(
    scheduler: Scheduler,
) -> None:
    runs = [await scheduler.trained() for _ in range(2)]
    stub = scheduler.heads_stub()
    request = pb.GetHeadLineageRequest(head=SECOND)
    found = await stub.GetHeadLineage(request, metadata=ACME)
    assert found.head == await stub.GetHead(pb.GetHeadRequest(head=SECOND), metadata=ACME)
    assert (found.head.run_id, found.head.verdict.incumbent) == (runs[1], FIRST)
    assert (found.snapshot_digest, found.triplets_used, found.trigger) == (DIGEST, 4_218, "manual")
    assert dict(found.recipe["cross"]) == {"epochs": 30}
    assert (found.encoder, found.code_version, found.rule_version) == ("test", "1", "1")
    assert (found.outcomes_used, list(found.twins_outcomes_used)) == (900, [800, 810])
    assert found.twins_agreement == 0.97
    first, general = found.ancestors
    assert (first.head, first.run_id, first.result) == (FIRST, runs[0], "promoted")
    assert (general.head, general.run_id, general.result) == ("general", "", "")


async def test_two_heads_are_told_apart_by_what_differs_alone(scheduler: Scheduler) -> None:
    await scheduler.trained()
    await scheduler.trained(
        recipe='{"seed": 0, "cross": {"epochs": 20}, "patience": 6}',
        columns=[{"name": "goal", "type": "enum", "members": ["fun", "love"]}],
    )
    request = pb.CompareHeadsRequest(head=SECOND, other=FIRST)
    found = await scheduler.heads_stub().CompareHeads(request, metadata=ACME)
    assert (found.head, found.other, found.figures_comparable) == (SECOND, FIRST, True)
    assert {d.name: (d.head, d.other) for d in found.differences} == {
        "parent": (FIRST, "general"),
        "columns.age": ("", "integer"),
        "columns.goal": ("enum ['fun', 'love']", ""),
        "recipe.cross.epochs": ("20", "30"),
        "recipe.patience": ("6", ""),
    }
    assert [figure.name for figure in found.figures][:2] == ["ndcg_at_10", "auc"]
    assert {figure.difference for figure in found.figures} == {0}  # the same evaluation


async def test_figures_of_other_held_out_outcomes_do_not_compare(scheduler: Scheduler) -> None:
    await scheduler.trained()
    scheduler.triplets.counts["dating"] += 1
    await scheduler.trained(snapshot_digest="b" * 64)
    request = pb.CompareHeadsRequest(head=SECOND, other=FIRST)
    found = await scheduler.heads_stub().CompareHeads(request, metadata=ACME)
    assert not found.figures_comparable
    differences = {d.name: (d.head, d.other) for d in found.differences}
    assert differences["triplets_used"] == ("4219", "4218")
    assert differences["snapshot_digest"] == ("b" * 64, MANIFEST["snapshot_digest"])


async def test_a_head_does_not_differ_from_itself(scheduler: Scheduler) -> None:
    await scheduler.trained()
    request = pb.CompareHeadsRequest(head=FIRST, other=FIRST)
    assert not (await scheduler.heads_stub().CompareHeads(request, metadata=ACME)).differences


async def test_heads_are_the_tenants_own(scheduler: Scheduler) -> None:
    await scheduler.trained()
    stub = scheduler.heads_stub()
    for call in (
        stub.GetHead(pb.GetHeadRequest(head=FIRST), metadata=OTHER),
        stub.GetHeadVerdict(pb.GetHeadVerdictRequest(head=FIRST), metadata=OTHER),
        stub.GetHeadLineage(pb.GetHeadLineageRequest(head=FIRST), metadata=OTHER),
        stub.CompareHeads(pb.CompareHeadsRequest(head=FIRST, other=FIRST), metadata=OTHER),
        stub.CompareHeads(pb.CompareHeadsRequest(head=FIRST, other=SECOND), metadata=ACME),
    ):
        assert (await refused(call)).reason == "HEAD_NOT_FOUND"
    half = stub.CompareHeads(pb.CompareHeadsRequest(head=FIRST), metadata=ACME)
    assert (await refused(half)).metadata["field"] == "other"


async def test_without_its_manifest_a_head_cannot_be_compared(scheduler: Scheduler) -> None:
    await scheduler.train(force=True)
    leased = await scheduler.lease()
    digest = await scheduler.told(leased)
    await scheduler.complete(leased, digest=digest)
    await scheduler.artifacts.erase(digest)
    request = pb.CompareHeadsRequest(head=FIRST, other=FIRST)
    refusal = await refused(scheduler.heads_stub().CompareHeads(request, metadata=ACME))
    assert (refusal.reason, refusal.code.name) == ("ARTIFACTS_UNAVAILABLE", "UNAVAILABLE")


async def test_a_pin_keeps_the_head_in_use_and_is_listed(scheduler: Scheduler) -> None:
    await scheduler.trained()
    stub = scheduler.heads_stub()
    answer = await stub.PinHead(pb.PinHeadRequest(domain="dating"), metadata=ACME)
    assert (answer.domain, answer.head, answer.previous_head) == ("dating", FIRST, FIRST)
    await stub.PinHead(pb.PinHeadRequest(domain="dating", head="general"), metadata=ACME)
    run = await scheduler.run(await scheduler.trained())
    assert (run.verdict.result, run.verdict.passed) == ("held", True)
    assert "pinned to general" in run.verdict.reasons[0]
    listed = await stub.ListHeads(pb.ListHeadsRequest(domain="dating"), metadata=ACME)
    assert listed.pinned_head == "general"
    answer = await stub.PinHead(pb.PinHeadRequest(domain="dating", head=SECOND), metadata=ACME)
    assert (answer.head, answer.previous_head) == (SECOND, "general")
    assert await scheduler.promoted() == [SECOND]
    answer = await stub.UnpinHead(pb.UnpinHeadRequest(domain="dating"), metadata=ACME)
    assert answer.head == SECOND
    listed = await stub.ListHeads(pb.ListHeadsRequest(domain="dating"), metadata=ACME)
    assert listed.pinned_head == ""


async def test_only_heads_of_the_tenants_domain_are_pinned(scheduler: Scheduler) -> None:
    await scheduler.trained(better=False)
    stub = scheduler.heads_stub()
    for request, metadata, reason in (
        (pb.PinHeadRequest(domain="dating", head=FIRST), ACME, "HEAD_NOT_FOUND"),
        (pb.PinHeadRequest(domain="dating"), OTHER, "DOMAIN_NOT_FOUND"),
        (pb.PinHeadRequest(), ACME, "FIELD_INVALID"),
    ):
        assert (await refused(stub.PinHead(request, metadata=metadata))).reason == reason
    nowhere = stub.UnpinHead(pb.UnpinHeadRequest(domain="nowhere"), metadata=ACME)
    assert (await refused(nowhere)).reason == "DOMAIN_NOT_FOUND"

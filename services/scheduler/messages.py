"""The scheduler's values as protobuf messages."""

import dataclasses
import datetime
from collections.abc import Sequence

from google.protobuf import json_format, struct_pb2
from google.protobuf.timestamp_pb2 import Timestamp
from trine.scheduler.v1 import (
    head_pb2,
    head_report_pb2,
    head_service_pb2,
    rollout_pb2,
    run_pb2,
)

from services.scheduler.core.compare_heads import Comparison
from services.scheduler.core.estimate import PastRun, estimate_minutes
from services.scheduler.core.explain_verdict import explain_verdict
from services.scheduler.core.head import DOMAIN_TIER, Ancestor, Head
from services.scheduler.core.lineage import Lineage
from services.scheduler.core.list_user_heads import UserHead
from services.scheduler.core.rollout import Rollout, ShadowFigures, Step
from services.scheduler.core.rollout_policy import RolloutPolicy
from services.scheduler.core.run import ACTIVE, Run
from services.scheduler.core.sequential_test import ArmCounts
from services.scheduler.core.verdict import (
    GENERAL,
    Counterfactual,
    Interval,
    Quality,
    Values,
    Verdict,
)


def run_to_proto(run: Run, minutes: int = 0) -> run_pb2.Run:
    """A run as callers read it."""
    message = run_pb2.Run(
        run_id=run.run_id,
        domain=run.job.domain,
        status=run.state,
        trigger=run.job.trigger,
        attempt=run.attempt,
        triplets_used=_triplets_count(run),
        estimated_completion_minutes=minutes,
        snapshot_digest=run.snapshot_digest,
        progress=run_pb2.Run.Progress(
            steps_done_count=run.steps_done_count, steps_count=run.steps_count
        ),
        loss_curve=[
            run_pb2.Run.LossPoint(
                step=point.step,
                loss=point.loss,
                validation_ndcg_at_10=point.validation_ndcg_at_10,
                stage=point.stage,
                validation_loss=point.validation_loss,
            )
            for point in run.loss_curve
        ],
        verdict=None if run.verdict is None else verdict_to_proto(run.verdict),
        head=run.head,
        create_time=timestamp(run.create_time),
        start_time=timestamp(run.start_time),
        end_time=timestamp(run.end_time),
        stop_requested=run.stop_requested,
        model=run.job.model,
        base_model="" if run.job.files is None else run.job.files.source.base_model,
    )
    if run.failure is not None:
        message.failure.CopyFrom(
            run_pb2.Run.Failure(
                reason=run.failure.reason,
                message=run.failure.message,
                retriable=run.failure.retriable,
            )
        )
    return message


def _triplets_count(run: Run) -> int:
    """Triplets of a run of a domain, lines of one from files."""
    return run.job.triplets_count if run.dataset is None else run.dataset.training_lines_count


def minutes_left(run: Run, history: Sequence[PastRun], now: datetime.datetime) -> int:
    """Minutes until an active run is expected to end, at least 1; 0 for one that has."""
    if run.state not in ACTIVE:
        return 0
    spent = (now - run.start_time).total_seconds() / 60 if run.start_time else 0
    return max(1, round(estimate_minutes(history, _triplets_count(run), 0) - spent))


def head_to_proto(head: Head) -> head_pb2.Head:
    """A head as callers read it: of a domain head nothing that speaks of who shares."""
    if head.tier == DOMAIN_TIER:
        return head_pb2.Head(
            head=head.head,
            domain=head.domain,
            tier=head.tier,
            parent=head.parent or GENERAL,
            promoted=head.promoted,
            create_time=timestamp(head.create_time),
        )
    return head_pb2.Head(
        head=head.head,
        domain=head.domain,
        tier=head.tier,
        run_id=head.run_id,
        parent=head.parent or GENERAL,
        manifest_digest=head.manifest_digest,
        promoted=head.promoted,
        verdict=verdict_to_proto(head.verdict),
        create_time=timestamp(head.create_time),
    )


def user_head_to_proto(found: UserHead) -> head_service_pb2.ListUserHeadsResponse.UserHead:
    """A head that a person is in."""
    head = found.learned.head
    return head_service_pb2.ListUserHeadsResponse.UserHead(
        head=head.head,
        domain=head.domain,
        tier=head.tier,
        run_id="" if head.tier == DOMAIN_TIER else head.run_id,
        snapshot_digest=found.learned.snapshot_digest,
        promoted=head.promoted,
        erased=found.erased,
        create_time=timestamp(head.create_time),
    )


def report_to_proto(head: Head) -> head_report_pb2.HeadVerdict:
    """The gate's report on a head."""
    return head_report_pb2.HeadVerdict(
        head=head.head,
        domain=head.domain,
        run_id=head.run_id,
        summary=explain_verdict(head),
        rules=[
            head_report_pb2.HeadVerdict.Rule(
                rule=rule.name,
                passed=rule.passed,
                measured=rule.measured,
                limit=rule.limit,
                sentence=rule.sentence,
            )
            for rule in head.verdict.rules
        ],
        verdict=verdict_to_proto(head.verdict),
        create_time=timestamp(head.create_time),
    )


def comparison_to_proto(
    head: str, other: str, comparison: Comparison
) -> head_report_pb2.HeadComparison:
    """In what two heads differ."""
    kind = head_report_pb2.HeadComparison
    return kind(
        head=head,
        other=other,
        differences=[
            kind.Difference(name=found.name, head=found.head, other=found.other)
            for found in comparison.differences
        ],
        figures=[
            kind.Figure(
                name=figure.name,
                head=figure.head,
                other=figure.other,
                difference=figure.head - figure.other,
            )
            for figure in comparison.figures
        ],
        figures_comparable=comparison.figures_comparable,
    )


def lineage_to_proto(lineage: Lineage) -> head_report_pb2.HeadLineage:
    """Where a head comes from."""
    kind = head_report_pb2.HeadLineage
    head, run, manifest = (
        lineage.origin.head,
        lineage.origin.run,
        lineage.origin.manifest,
    )
    ancestors = [_ancestor(ancestor) for ancestor in lineage.ancestors]
    if not (lineage.ancestors and lineage.ancestors[-1].parent):
        ancestors.append(kind.Ancestor(head=GENERAL, tier=GENERAL))
    return kind(
        head=head_to_proto(head),
        snapshot_digest=manifest.snapshot_digest,
        triplets_used=run.job.triplets_count,
        trigger=run.job.trigger,
        recipe=json_format.ParseDict(dict(manifest.recipe), struct_pb2.Struct()),
        encoder=manifest.encoder,
        code_version=manifest.code_version,
        rule_version=manifest.rule_version,
        ancestors=ancestors,
        outcomes_used=manifest.outcomes_count,
        twins_outcomes_used=manifest.twins_outcomes_counts,
        twins_agreement=manifest.twins_agreement,
        snapshot_kept=lineage.snapshot_kept,
    )


def rollout_to_proto(rollout: Rollout) -> rollout_pb2.Rollout:
    """A rollout as callers read it."""
    message = rollout_pb2.Rollout(
        rollout_id=rollout.rollout_id,
        domain=rollout.domain,
        status=rollout.step,
        challenger=rollout.head,
        incumbent=rollout.incumbent or GENERAL,
        reason=rollout.reason,
        policy=rollout_policy_to_proto(rollout.domain, rollout.policy),
        shadow=None if rollout.policy.shadow is None else _figures(rollout.figures),
        gain=None if rollout.gain is None else _interval(rollout.gain),
        create_time=timestamp(rollout.create_time),
        status_time=timestamp(rollout.step_time),
        end_time=timestamp(rollout.end_time),
    )
    if rollout.look_time is not None or rollout.step is Step.CANARY:
        message.challenger_arm.CopyFrom(_arm(rollout.challenger))
        message.incumbent_arm.CopyFrom(_arm(rollout.incumbent_arm))
    return message


def rollout_policy_to_proto(domain: str, policy: RolloutPolicy) -> rollout_pb2.RolloutPolicy:
    """How heads of a domain come into use, as callers read it."""
    kind = rollout_pb2.RolloutPolicy
    shadow, canary = policy.shadow, policy.canary
    return kind(
        domain=domain,
        shadow=None if shadow is None else kind.Shadow(**dataclasses.asdict(shadow)),
        canary=None if canary is None else kind.Canary(**dataclasses.asdict(canary)),
    )


def _figures(figures: ShadowFigures) -> rollout_pb2.Rollout.ShadowFigures:
    count, pairs = figures.matches_count or 1, figures.correlated_count
    return rollout_pb2.Rollout.ShadowFigures(
        matches_count=figures.matches_count,
        errors_count=figures.errors_count,
        dropped_count=figures.dropped_count,
        overlap=figures.overlap_sum / count,
        rank_correlation=figures.rank_correlation_sum / pairs if pairs else None,
        challenger_seconds=figures.challenger_seconds_sum / count,
        incumbent_seconds=figures.incumbent_seconds_sum / count,
    )


def _arm(arm: ArmCounts) -> rollout_pb2.Rollout.Arm:
    return rollout_pb2.Rollout.Arm(
        matches_count=arm.matches_count,
        outcomes_count=arm.outcomes_count,
        positives_count=arm.positives_count,
        seekers_count=arm.seekers_count,
    )


def _ancestor(ancestor: Ancestor) -> head_report_pb2.HeadLineage.Ancestor:
    kind = head_report_pb2.HeadLineage.Ancestor
    named = kind(
        head=ancestor.head, tier=ancestor.tier, create_time=timestamp(ancestor.create_time)
    )
    if ancestor.tier != DOMAIN_TIER:
        named.run_id = ancestor.run_id
        named.snapshot_digest = ancestor.snapshot_digest
        named.triplets_used = ancestor.triplets_count
        named.result = ancestor.result
    return named


def verdict_to_proto(verdict: Verdict) -> run_pb2.Verdict:
    """A verdict as callers and trainers read it."""
    return run_pb2.Verdict(
        result=verdict.result,
        reasons=verdict.reasons,
        incumbent=verdict.incumbent,
        challenger_quality=_quality(verdict.challenger_quality),
        incumbent_quality=_quality(verdict.incumbent_quality),
        ndcg_at_10_gain=_interval(verdict.ndcg_at_10_gain),
        auc_gain=_interval(verdict.auc_gain),
        seekers_count=verdict.seekers_count,
        outcomes_count=verdict.outcomes_count,
        passed=verdict.passed,
        rollout_id=verdict.rollout_id,
        counterfactual=_counterfactual(verdict.counterfactual),
    )


def _counterfactual(found: Counterfactual | None) -> run_pb2.Counterfactual | None:
    if found is None:
        return None
    return run_pb2.Counterfactual(
        matches_count=found.matches_count,
        explored_count=found.explored_count,
        positives_count=found.positives_count,
        challenger=_values(found.challenger),
        incumbent=_values(found.incumbent),
        difference=_values(found.difference),
    )


def _values(values: Values) -> run_pb2.Counterfactual.Values:
    return run_pb2.Counterfactual.Values(
        ips=_interval(values.ips), snips=_interval(values.snips), dr=_interval(values.dr)
    )


def _quality(quality: Quality) -> run_pb2.Quality:
    return run_pb2.Quality(
        ndcg_at_10=quality.ndcg_at_10.mid,
        ndcg_at_10_interval=_interval(quality.ndcg_at_10),
        auc=quality.auc.mid,
        auc_interval=_interval(quality.auc),
        calibration_error=quality.calibration_error,
    )


def _interval(interval: Interval) -> run_pb2.Interval:
    return run_pb2.Interval(low=interval.low, mid=interval.mid, high=interval.high)


def timestamp(moment: datetime.datetime | None) -> Timestamp | None:
    """A moment; None for none."""
    if moment is None:
        return None
    message = Timestamp()
    message.FromDatetime(moment)
    return message

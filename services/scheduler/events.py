"""How the scheduler's events look: CloudEvents with RunChanged, HeadChanged, RolloutChanged."""

import datetime

from google.protobuf import json_format
from google.protobuf.message import Message
from trine.scheduler.v1 import scheduler_events_pb2

from services.chassis.outbox import CloudEvent
from services.scheduler.core.head import Head
from services.scheduler.core.ports import HeadEventKind, RunEventKind
from services.scheduler.core.rollout import Rollout
from services.scheduler.core.run import Run
from services.scheduler.messages import head_to_proto, rollout_to_proto, run_to_proto

TYPE_PREFIX = "trine.events.v1"
SOURCE = "/trine/scheduler"
NO_DOMAIN = "_"
"""In the subject of a run from files, where others have their domain. No domain is called so."""


def run_event(kind: RunEventKind, run: Run) -> CloudEvent:
    """An event about a run."""
    job = run.job
    data = scheduler_events_pb2.RunChanged(tenant=job.tenant, run=run_to_proto(run))
    return _event(f"run.{kind}", run.run_id, job.tenant, job.domain or NO_DOMAIN, data)


def head_event(
    kind: HeadEventKind, tenant: str, domain: str, head: Head | None, previous: str
) -> CloudEvent:
    """An event about the pointer."""
    data = scheduler_events_pb2.HeadChanged(
        tenant=tenant,
        domain=domain,
        head=None if head is None else head_to_proto(head),
        previous_head=previous,
    )
    subject = "general" if head is None else head.head
    return _event(f"head.{kind}", subject, tenant, domain, data)


def rollout_event(rollout: Rollout) -> CloudEvent:
    """An event about a rollout."""
    tenant, domain = rollout.tenant, rollout.domain
    data = scheduler_events_pb2.RolloutChanged(tenant=tenant, rollout=rollout_to_proto(rollout))
    return _event(f"rollout.{rollout.step}", rollout.rollout_id, tenant, domain, data)


def _event(kind: str, subject: str, tenant: str, domain: str, data: Message) -> CloudEvent:
    return CloudEvent(
        type=f"{TYPE_PREFIX}.{kind}",
        source=SOURCE,
        subject=subject,
        tenant=tenant,
        domain=domain,
        time=datetime.datetime.now(datetime.UTC),
        data=json_format.MessageToDict(
            data, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
        ),
    )

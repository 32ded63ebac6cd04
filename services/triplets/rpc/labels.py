"""LabelService: what outcomes are called, between wire and core."""

from collections.abc import Iterable

from trine.triplets.v1 import label_service_pb2 as pb
from trine.triplets.v1 import label_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.interceptors import Context
from services.triplets.core.errors import DomainNotFoundError
from services.triplets.core.label import BUILT_IN, LEVEL_NAMES, Label, read_level, replace_labels
from services.triplets.core.ports import TripletStore


class LabelServicer(label_service_pb2_grpc.LabelServiceServicer):
    """Reads and registers labels."""

    def __init__(self, store: TripletStore) -> None:
        self._store = store

    async def GetLabels(self, request: pb.GetLabelsRequest, context: Context) -> pb.LabelSet:
        labels = await self._store.read_labels(current_tenant(), request.domain)
        if labels is None:
            raise DomainNotFoundError(request.domain)
        return _to_proto(request.domain, labels.values())

    async def PutLabels(self, request: pb.PutLabelsRequest, context: Context) -> pb.LabelSet:
        new = [_from_proto(index, label) for index, label in enumerate(request.label_set.labels)]
        async with self._store.open_domain(current_tenant(), request.domain) as unit:
            labels = replace_labels(unit.labels, new)
            await unit.save_labels(labels)
        return _to_proto(request.domain, labels.values())


def _from_proto(index: int, message: pb.Label) -> Label:
    return Label(
        name=message.name,
        level=read_level(f"labels[{index}].level", message.level),
        weight=message.weight if message.HasField("weight") else 1.0,
    )


def _to_proto(domain: str, labels: Iterable[Label]) -> pb.LabelSet:
    return pb.LabelSet(
        domain=domain,
        labels=[_label(label) for label in labels],
        built_in=[_label(label) for label in BUILT_IN.values()],
    )


def _label(label: Label) -> pb.Label:
    return pb.Label(
        name=label.name, level=LEVEL_NAMES[label.level], weight=label.weight, used=label.used
    )

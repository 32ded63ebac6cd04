"""LoadedHeadService: what this pod serves."""

from trine.serving.v1 import loaded_head_service_pb2 as pb
from trine.serving.v1 import loaded_head_service_pb2_grpc

from services.chassis.interceptors import Context
from services.serving.core.loaded_head import ServedDomain
from services.serving.core.swap_heads import DomainKey, FailedHead, Registry


class LoadedHeadServicer(loaded_head_service_pb2_grpc.LoadedHeadServiceServicer):
    """Lists heads in memory."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry

    async def ListLoadedHeads(
        self, request: pb.ListLoadedHeadsRequest, context: Context
    ) -> pb.ListLoadedHeadsResponse:
        return pb.ListLoadedHeadsResponse(
            heads=[_loaded(key, served) for key, served in self._registry.domains.items()],
            failed_heads=[_failed(failed) for failed in self._registry.failed.values()],
        )


def _loaded(key: DomainKey, served: ServedDomain) -> pb.LoadedHead:
    tenant, domain = key
    message = pb.LoadedHead(
        tenant=tenant,
        domain=domain,
        head=served.head.head,
        probes_count=served.probes_count,
        recall=served.recall,
        tier=served.head.tier,
    )
    message.load_time.FromDatetime(served.load_time)
    return message


def _failed(failed: FailedHead) -> pb.FailedHead:
    return pb.FailedHead(
        tenant=failed.desired.tenant,
        domain=failed.desired.domain,
        head=failed.desired.head,
        message=failed.message,
        tier=failed.desired.tier,
    )

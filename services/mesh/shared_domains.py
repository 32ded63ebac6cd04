"""What an operator asks of domains that tenants share: a run, and a head taken back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from trine.scheduler.v1 import run_pb2, shared_domain_service_pb2_grpc
from trine.scheduler.v1 import shared_domain_service_pb2 as pb

from services.mesh.home import Home
from services.mesh.operator import channel_to

ENDS = {"succeeded", "stopped", "failed", "cancelled"}
ASK_SECONDS = 0.2


async def train_shared_domain(home: Home, domain: str, *, force: bool) -> run_pb2.Run:
    """Trains a shared domain and returns the run once it has ended.

    Raises:
        NoMeshError: no mesh runs here.
        grpc.aio.AioRpcError: the run is refused.
    """
    async with _stub(home) as stub:
        request = pb.TrainSharedDomainRequest(domain=domain, force=force)
        asking = pb.GetSharedRunRequest(run_id=(await stub.TrainSharedDomain(request)).run_id)
        while True:
            run: run_pb2.Run = (await stub.GetSharedRun(asking)).run
            if run.status in ENDS:
                return run
            await asyncio.sleep(ASK_SECONDS)


async def roll_back_shared_head(home: Home, domain: str, head: str) -> tuple[str, str]:
    """Puts an earlier domain head back in use; returns the heads in use after and before.

    Raises:
        NoMeshError: no mesh runs here.
        grpc.aio.AioRpcError: there is no such head, or none before.
    """
    async with _stub(home) as stub:
        request = pb.RollBackSharedHeadRequest(domain=domain, head=head)
        answer = await stub.RollBackSharedHead(request)
        return answer.head, answer.rolled_back_head


@asynccontextmanager
async def _stub(home: Home) -> AsyncIterator[Any]:
    async with channel_to(home, "scheduler") as channel:
        yield shared_domain_service_pb2_grpc.SharedDomainServiceStub(channel)

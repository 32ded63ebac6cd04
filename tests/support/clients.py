"""The unmodified openai client against a running mesh, and keys of other tenants and scopes."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress

import grpc
import openai
from trine.gateway.v1 import access_service_pb2 as pb
from trine.gateway.v1 import access_service_pb2_grpc

from tests.support.mesh import Mesh, run_async

OPENAI = "/v1"
TRUEFOUNDRY = "/api/llm"


@contextmanager
def client_of(mesh: Mesh, prefix: str = OPENAI, key: str = "") -> Iterator[openai.OpenAI]:
    """A client that is told an address and a key, and nothing else."""
    url = mesh.told["rest"] + prefix
    with openai.OpenAI(base_url=url, api_key=key or mesh.told["api_key"]) as client:
        yield client


def new_key(mesh: Mesh, tenant: str, *scopes: str) -> str:
    """A key of a tenant, which is made if it is not there; without scopes it may do everything."""

    async def create() -> str:
        metadata = (("trine-mesh-token", mesh.home.read_secrets().mesh_token),)
        async with grpc.aio.insecure_channel(mesh.told["services"]["gateway"]) as channel:
            stub = access_service_pb2_grpc.AccessServiceStub(channel)
            with suppress(grpc.aio.AioRpcError):  # it is there already
                await stub.CreateTenant(pb.CreateTenantRequest(tenant=tenant), metadata=metadata)
            request = pb.CreateApiKeyRequest(tenant=tenant, scopes=scopes)
            return (await stub.CreateApiKey(request, metadata=metadata)).api_key

    key: str = run_async(create())
    return key

"""UserService: people between wire and core."""

from google.protobuf import struct_pb2
from trine.triplets.v1 import user_pb2, user_service_pb2, user_service_pb2_grpc

from services.chassis.auth import current_tenant
from services.chassis.interceptors import Context
from services.chassis.replies import answer_once
from services.chassis.structs import read_struct
from services.triplets.core.errors import DomainNotFoundError, UserNotFoundError
from services.triplets.core.ports import DomainUnit, Encoder, TripletStore
from services.triplets.core.profile import StoredProfile, Value
from services.triplets.core.upsert_user import UserDraft, prepare_profile, save_profile


class UserServicer(user_service_pb2_grpc.UserServiceServicer):
    """Stores and returns people."""

    def __init__(self, store: TripletStore, encoder: Encoder) -> None:
        self._store = store
        self._encoder = encoder

    async def UpsertUser(
        self, request: user_service_pb2.UpsertUserRequest, context: Context
    ) -> user_pb2.User:
        draft = UserDraft(
            user_id=request.user_id,
            context=request.context,
            values=read_struct(request.fields),
            memory_ref=request.memory_ref,
            vector=list(request.vector),
        )
        tenant, domain = current_tenant(), request.domain
        profile = await prepare_profile(self._store, self._encoder, tenant, domain, draft)

        async def act(unit: DomainUnit) -> user_pb2.User:
            return _to_proto(await save_profile(unit, profile))

        opening = self._store.open_domain(tenant, domain)
        return await answer_once(opening, request, context, user_pb2.User, act)

    async def GetUser(
        self, request: user_service_pb2.GetUserRequest, context: Context
    ) -> user_pb2.User:
        tenant = current_tenant()
        stored = await self._store.read_profile(tenant, request.domain, request.user_id)
        if stored is None:
            if await self._store.read_schema(tenant, request.domain) is None:
                raise DomainNotFoundError(request.domain)
            raise UserNotFoundError("user_id", request.user_id)
        return _to_proto(stored)


def _to_proto(stored: StoredProfile) -> user_pb2.User:
    profile, schema = stored.profile, stored.schema
    kinds = {field.name: field.kind for field in schema.fields}
    derived = {n: v for n, v in profile.values.items() if kinds[n] == "derived"}
    fields = {n: v for n, v in profile.values.items() if kinds[n] != "derived"}
    user = user_pb2.User(
        user_id=profile.user_id,
        domain=schema.domain,
        schema_version=schema.version,
        fields=_struct(fields),
        derived=_struct(derived),
    )
    if profile.vector is not None:
        embedding = user_pb2.User.Embedding(dim=schema.dim, version=profile.encoder)
        user.embeddings[schema.domain].CopyFrom(embedding)
    user.last_enriched_at.FromDatetime(stored.update_time)
    return user


def _struct(values: dict[str, Value]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct

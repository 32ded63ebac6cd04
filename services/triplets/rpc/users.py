"""UserService: people between wire and core."""

import datetime
import uuid
from collections.abc import AsyncIterator
from urllib.parse import quote

from google.protobuf import struct_pb2
from trine.triplets.v1 import user_pb2, user_service_pb2_grpc
from trine.triplets.v1 import user_service_pb2 as pb

from services.chassis.auth import current_tenant
from services.chassis.clock import Clock
from services.chassis.crashpoint import crashpoint
from services.chassis.interceptors import Context as CallContext
from services.chassis.replies import answer_once, forget_answers
from services.chassis.structs import read_struct
from services.triplets.core.append_context import append_context, check_context, prepare_context
from services.triplets.core.context import Context
from services.triplets.core.erase_user import erase_user
from services.triplets.core.errors import (
    DomainNotFoundError,
    FieldInvalidError,
    UserChangedError,
    UserNotFoundError,
)
from services.triplets.core.extraction.extract import Extractor
from services.triplets.core.ports import DomainUnit, Encoder, TripletStore
from services.triplets.core.profile import StoredProfile, Value
from services.triplets.core.upsert_user import UserDraft, prepare_profile, save_profile
from services.triplets.rpc.imports import import_users

ATTEMPTS_MAX = 10
"""To add a context to a person whom others change at the same time."""


class UserServicer(user_service_pb2_grpc.UserServiceServicer):
    """Stores, returns and erases people."""

    def __init__(
        self, store: TripletStore, encoder: Encoder, extractor: Extractor, clock: Clock
    ) -> None:
        self._store = store
        self._encoder = encoder
        self._extractor = extractor
        self._clock = clock

    async def UpsertUser(
        self, request: pb.UpsertUserRequest, context: CallContext
    ) -> user_pb2.User:
        draft = UserDraft(
            user_id=request.user_id,
            context=request.context,
            values=read_struct(request.fields),
            memory_ref=request.memory_ref,
            vector=list(request.vector),
        )
        tenant, domain = current_tenant(), request.domain
        profile = await prepare_profile(
            self._store,
            self._encoder,
            self._extractor,
            tenant=tenant,
            domain=domain,
            draft=draft,
            now=self._clock.now(),
        )

        async def act(unit: DomainUnit) -> user_pb2.User:
            return _to_proto(await save_profile(unit, profile))

        opening = self._store.open_domain(tenant, domain)
        user = await answer_once(
            opening, request, context, user_pb2.User, act, about=_about(request)
        )
        crashpoint("triplets.user.committed")
        return user

    async def ImportUsers(
        self, request_iterator: AsyncIterator[pb.ImportUsersRequest], context: CallContext
    ) -> pb.ImportUsersResponse:
        return await import_users(
            self._store,
            self._encoder,
            self._clock,
            tenant=current_tenant(),
            requests=request_iterator,
        )

    async def GetUser(self, request: pb.GetUserRequest, context: CallContext) -> user_pb2.User:
        tenant = current_tenant()
        if not request.domain:
            found = await self._store.read_profiles(tenant, request.user_id)
            return _in_all(request.user_id, found)
        stored = await self._store.read_profile(tenant, request.domain, request.user_id)
        if stored is None:
            if await self._store.read_schema(tenant, request.domain) is None:
                raise DomainNotFoundError(request.domain)
            raise UserNotFoundError("user_id", request.user_id)
        return _to_proto(stored)

    async def AppendContext(
        self, request: pb.AppendContextRequest, context: CallContext
    ) -> pb.AppendContextResponse:
        added = _read_context(request, self._clock.now())
        for _ in range(ATTEMPTS_MAX - 1):
            try:
                return await self._append(request, context, added)
            except UserChangedError:
                continue
        return await self._append(request, context, added)

    async def _append(
        self, request: pb.AppendContextRequest, context: CallContext, added: Context
    ) -> pb.AppendContextResponse:
        tenant, domain = current_tenant(), request.domain
        prepared = await prepare_context(
            self._store,
            self._encoder,
            self._extractor,
            tenant=tenant,
            domain=domain,
            user_id=request.user_id,
            context=added,
        )

        async def act(unit: DomainUnit) -> pb.AppendContextResponse:
            appended = await append_context(unit, prepared)
            return pb.AppendContextResponse(
                user_id=request.user_id,
                domain=domain,
                context_id=added.context_id,
                fields_updated=appended.fields_updated,
                embeddings_refreshed=appended.embeddings_refreshed,
            )

        opening = self._store.open_domain(tenant, domain)
        kind, about = pb.AppendContextResponse, _about(request)
        response = await answer_once(opening, request, context, kind, act, about=about)
        crashpoint("triplets.context.committed")
        return response

    async def DeleteUser(
        self, request: pb.DeleteUserRequest, context: CallContext
    ) -> pb.DeleteUserResponse:
        async def act(unit: DomainUnit) -> pb.DeleteUserResponse:
            erasure = await erase_user(unit, request.user_id)
            crashpoint("triplets.erasure.written")
            await forget_answers(unit, _about(request))
            return pb.DeleteUserResponse(
                outcomes_removed=erasure.outcomes_count,
                snapshot_digests=erasure.snapshot_digests,
            )

        opening = self._store.open_domain(current_tenant(), request.domain)
        response = await answer_once(opening, request, context, pb.DeleteUserResponse, act)
        crashpoint("triplets.erasure.committed")
        # Not in the answer that is kept for repeats: it would name whoever has been erased.
        response.heads = f"/v1/users/{quote(request.user_id, '')}/heads?domain={request.domain}"
        return response


def _about(request: pb.UpsertUserRequest | pb.AppendContextRequest | pb.DeleteUserRequest) -> str:
    """Under what an answer about a person is kept."""
    return f"{request.domain}/{request.user_id}"


def _read_context(request: pb.AppendContextRequest, now: datetime.datetime) -> Context:
    occurred_at = now
    if request.HasField("occurred_at"):
        try:
            occurred_at = request.occurred_at.ToDatetime(datetime.UTC)
        except ValueError:
            rule = "must be between 1900 and a day from now"
            raise FieldInvalidError("occurred_at", rule) from None
    made = Context(
        context_id=f"ctx_{uuid.uuid4().hex[:16]}",
        content=request.content,
        source=request.source,
        occurred_at=occurred_at,
    )
    return check_context(made, now)


def _in_all(user_id: str, found: list[StoredProfile]) -> user_pb2.User:
    if not found:
        raise UserNotFoundError("user_id", user_id)
    user = user_pb2.User(user_id=user_id, domains=[_to_proto(stored) for stored in found])
    for one in user.domains:
        user.embeddings.MergeFrom(one.embeddings)
    user.last_enriched_at.FromDatetime(max(stored.update_time for stored in found))
    return user


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
    for name, origin in profile.provenance.items():
        told = user_pb2.User.Provenance(
            source=origin.source, confidence=origin.confidence, evidence=origin.evidence
        )
        told.at.FromDatetime(origin.at)
        user.provenance[name].CopyFrom(told)
    user.last_enriched_at.FromDatetime(stored.update_time)
    return user


def _struct(values: dict[str, Value]) -> struct_pb2.Struct:
    struct = struct_pb2.Struct()
    struct.update(values)
    return struct

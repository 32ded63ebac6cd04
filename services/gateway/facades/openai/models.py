"""/models, and permissions on checkpoints."""

from aiohttp import web

from services.gateway.core.errors import PermissionNotFoundError
from services.gateway.core.ids import check_after
from services.gateway.core.page import Page, page_of
from services.gateway.core.permission import PERMISSION_ID, Permission, permissions_for
from services.gateway.core.ports import Clock, JobStore, Runs
from services.gateway.core.run import Model
from services.gateway.facades.openai.answers import Json, answer, envelope, unix
from services.gateway.facades.requests import (
    read_body,
    read_choice,
    read_limit,
    read_texts,
)
from services.gateway.http import Call, Route

PERMISSIONS_PAGE = 10
PERMISSIONS_PAGE_MAX = 100
OWNER = "trine"
"""Of the encoder alone, and of what tenants have taught each other."""


class Models:
    """Models and who may use their checkpoints."""

    def __init__(self, store: JobStore, runs: Runs, clock: Clock) -> None:
        self._store = store
        self._runs = runs
        self._clock = clock

    def routes(self) -> list[Route]:
        """What is answered here."""
        permissions = "/fine_tuning/checkpoints/{model}/permissions"
        return [
            Route("GET", "/models", "heads:read", self.list),
            Route("GET", "/models/{model}", "heads:read", self.retrieve),
            Route("DELETE", "/models/{model}", "heads:write", self.delete),
            Route("POST", permissions, "heads:write", self.permit),
            Route("GET", permissions, "heads:read", self.list_permissions),
            Route("DELETE", permissions + "/{permission_id}", "heads:write", self.forbid),
        ]

    async def list(self, call: Call) -> web.StreamResponse:
        models = await self._runs.list_models(call.tenant)
        data = [_model(call.tenant, model) for model in models]
        return answer({"object": "list", "data": data})

    async def retrieve(self, call: Call) -> web.StreamResponse:
        model = await self._runs.get_model(call.tenant, _name(call))
        return answer(_model(call.tenant, model))

    async def delete(self, call: Call) -> web.StreamResponse:
        await self._runs.delete_model(call.tenant, _name(call))
        return answer({"id": _name(call), "object": "model", "deleted": True})

    async def permit(self, call: Call) -> web.StreamResponse:
        body = await read_body(call.request, ("project_ids",))
        projects = read_texts(body, "project_ids")
        new = permissions_for(
            call.tenant, await self._checkpoint(call), projects, self._clock.now()
        )
        page = Page(await self._store.add_permissions(new), has_more=False)
        return answer(envelope(page, _permission, ids=True))

    async def list_permissions(self, call: Call) -> web.StreamResponse:
        limit = read_limit(call.request, PERMISSIONS_PAGE, PERMISSIONS_PAGE_MAX)
        order = read_choice(call.request, "order", ("ascending", "descending"), "descending")
        after = call.request.query.get("after", "")
        check_after(PERMISSION_ID, after)
        found = await self._store.list_permissions(
            call.tenant,
            await self._checkpoint(call),
            after=after,
            limit=limit + 1,
            newest_first=order == "descending",
            project=call.request.query.get("project_id", ""),
        )
        return answer(envelope(page_of(found, limit), _permission, ids=True))

    async def forbid(self, call: Call) -> web.StreamResponse:
        permission_id = call.request.match_info["permission_id"]
        if not await self._store.delete_permission(call.tenant, _name(call), permission_id):
            raise PermissionNotFoundError(permission_id)
        return answer({"id": permission_id, "object": "checkpoint.permission", "deleted": True})

    async def _checkpoint(self, call: Call) -> str:
        """The name of a model that the tenant has."""
        return (await self._runs.get_model(call.tenant, _name(call))).model


def _name(call: Call) -> str:
    return call.request.match_info["model"]


def _model(tenant: str, model: Model) -> Json:
    return {
        "id": model.model,
        "object": "model",
        "created": unix(model.create_time) or 0,
        "owned_by": tenant if model.owner == tenant else OWNER,
    }


def _permission(permission: Permission) -> Json:
    return {
        "id": permission.permission_id,
        "object": "checkpoint.permission",
        "created_at": unix(permission.create_time),
        "project_id": permission.project,
    }

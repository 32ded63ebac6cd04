"""What the name of a model stands for."""

import dataclasses
import datetime
from dataclasses import dataclass

from services.scheduler.core.errors import (
    DomainNotFoundError,
    FieldInvalidError,
    ModelNotFoundError,
)
from services.scheduler.core.file_source import model_of_checkpoint
from services.scheduler.core.head import SHARED, Head
from services.scheduler.core.ports import SchedulerStore, TripletCounts

PREFIX = "trine-"
GENERAL_MODEL = "trine-general"
MODELS_MAX = 1_000
"""Made from files, in a list."""
SHARED_DOMAINS_MAX = 100
"""Looked through for a list."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NamedModel:
    """A name and the head behind it."""

    model: str
    head: str = ""
    """Empty for the encoder alone."""
    manifest_digest: str = ""
    run_id: str = ""
    owner: str = ""
    """The tenant, or who owns shared domains."""
    create_time: datetime.datetime | None = None


async def find_model(
    store: SchedulerStore, triplets: TripletCounts, tenant: str, name: str
) -> NamedModel:
    """Returns what a name stands for: the encoder, a domain's head in use, a head, a model.

    A head of a shared domain can be named by all who have the domain: it serves them too.

    Raises:
        ModelNotFoundError: the tenant has nothing of this name.
        TripletsUnavailableError: whether there is such a domain cannot be told.
    """
    if name == GENERAL_MODEL:
        return NamedModel(model=name)
    head = await store.read_head(tenant, name)
    if head is not None and not head.deleted:
        return _named(name, head)
    checkpoint = model_of_checkpoint(name)
    if checkpoint is not None:
        return await _find_checkpoint(store, tenant, name, *checkpoint)
    shared = await store.read_head(SHARED, name)
    if shared is not None and await _has_domain(triplets, tenant, shared.domain):
        return _named(name, shared)
    if not name.startswith(PREFIX):
        raise ModelNotFoundError(name)
    return await _find_domain(store, triplets, tenant, name.removeprefix(PREFIX))


async def list_models(
    store: SchedulerStore, triplets: TripletCounts, tenant: str
) -> list[NamedModel]:
    """Returns the encoder, the heads in use, and the models made from files, newest first.

    Raises:
        TripletsUnavailableError: which of the shared domains the tenant has cannot be told.
    """
    in_use = {head.domain: head for head in await store.list_in_use(tenant)}
    for head in (await store.list_in_use(SHARED))[:SHARED_DOMAINS_MAX]:
        if head.domain not in in_use and await _has_domain(triplets, tenant, head.domain):
            in_use[head.domain] = head
    made = await store.list_heads(tenant, "", "", MODELS_MAX)
    return [
        NamedModel(model=GENERAL_MODEL),
        *(_named(f"{PREFIX}{domain}", head) for domain, head in sorted(in_use.items())),
        *(_named(head.head, head) for head in made if not head.deleted),
    ]


async def _find_checkpoint(
    store: SchedulerStore, tenant: str, name: str, model: str, step: int
) -> NamedModel:
    head = await store.read_head(tenant, model)
    if head is None or head.deleted:
        raise ModelNotFoundError(name)
    for found in await store.list_checkpoints(tenant, head.run_id):
        if found.step == step:
            named = _named(name, dataclasses.replace(head, head=name))
            digest = found.manifest_digest
            return dataclasses.replace(named, manifest_digest=digest, create_time=found.create_time)
    raise ModelNotFoundError(name)


async def _find_domain(
    store: SchedulerStore, triplets: TripletCounts, tenant: str, domain: str
) -> NamedModel:
    name = f"{PREFIX}{domain}"
    own = await store.head_in_use(tenant, domain)
    if own is not None:
        return _named(name, own)
    if not await _has_domain(triplets, tenant, domain):
        raise ModelNotFoundError(name)
    shared = await store.head_in_use(SHARED, domain)
    # Where nothing was learned yet it is the encoder alone.
    return NamedModel(model=name) if shared is None else _named(name, shared)


async def _has_domain(triplets: TripletCounts, tenant: str, domain: str) -> bool:
    try:
        await triplets.get(tenant, domain)
    except (DomainNotFoundError, FieldInvalidError):
        return False
    return True


def _named(name: str, head: Head) -> NamedModel:
    return NamedModel(
        model=name,
        head=head.head,
        manifest_digest=head.manifest_digest,
        run_id=head.run_id,
        owner=head.tenant,
        create_time=head.create_time,
    )

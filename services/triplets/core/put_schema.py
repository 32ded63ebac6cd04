"""Declaring a domain's schema, or replacing it by a compatible one."""

from services.triplets.core.errors import DomainsExhaustedError
from services.triplets.core.ports import TripletStore
from services.triplets.core.schema import Schema, check_schema, successor
from services.triplets.core.schema_change import SchemaChange, describe_change

DOMAINS_MAX = 1_000
"""Of a tenant: serving holds and follows each of them. Calls at once may make a few more."""


async def put_schema(
    store: TripletStore, tenant: str, schema: Schema
) -> tuple[Schema, SchemaChange]:
    """Makes `schema` the active one and returns it numbered; an equal one changes nothing.

    Raises:
        DomainsExhaustedError: it would be of one domain too many.
    """
    check_schema(schema)
    if await _read(store, tenant, schema.domain) is None and await store.create_domain(
        tenant, schema
    ):
        return schema, describe_change(None, schema, applied=True)
    async with store.open_domain(tenant, schema.domain) as unit:
        old = unit.schema
        new = successor(old, schema)
        if new != old:
            await unit.save_schema(new)
    return new, describe_change(old, new, applied=True)


async def preview_schema(
    store: TripletStore, tenant: str, schema: Schema
) -> tuple[Schema, SchemaChange]:
    """Returns what `put_schema` would return now, or raises what it would raise."""
    check_schema(schema)
    old = await _read(store, tenant, schema.domain)
    new = schema if old is None else successor(old, schema)
    return new, describe_change(old, new, applied=False)


async def _read(store: TripletStore, tenant: str, domain: str) -> Schema | None:
    """The schema of a domain; None for one that may come into being."""
    schema = await store.read_schema(tenant, domain)
    if schema is None and await store.count_domains(tenant) >= DOMAINS_MAX:
        raise DomainsExhaustedError(DOMAINS_MAX)
    return schema

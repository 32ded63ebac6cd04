"""Declaring a domain's schema, or replacing it by a compatible one."""

from services.triplets.core.ports import TripletStore
from services.triplets.core.schema import Schema, check_schema, successor


async def put_schema(store: TripletStore, tenant: str, schema: Schema) -> Schema:
    """Makes `schema` the active one and returns it numbered; an equal one changes nothing."""
    check_schema(schema)
    if await store.create_domain(tenant, schema):
        return schema
    async with store.open_domain(tenant, schema.domain) as unit:
        new = successor(unit.schema, schema)
        if new != unit.schema:
            await unit.save_schema(new)
    return new

-- Everything that the gateway asks of PostgreSQL.

-- name: add_tenant
insert into tenants (tenant) values ($1) on conflict do nothing returning true;

-- name: add_key
insert into api_keys (key_id, secret_hash, tenant, scopes, expire_time) values ($1, $2, $3, $4, $5);

-- name: find_key
select key_id, secret_hash, tenant, scopes, expire_time, revoke_time is not null as revoked
from api_keys where key_id = $1;

-- name: revoke_key
update api_keys set revoke_time = coalesce(revoke_time, now()) where key_id = $1 returning true;

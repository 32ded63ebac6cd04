-- Tenants and the keys that open their doors.
create table tenants (
    tenant text primary key,
    create_time timestamptz not null default now()
);

create table api_keys (
    key_id text primary key,
    secret_hash bytea not null check (octet_length(secret_hash) = 32),
    tenant text not null references tenants,
    scopes text[] not null,
    expire_time timestamptz,
    revoke_time timestamptz,
    create_time timestamptz not null default now()
);

-- Files, uploads and their parts; bytes lie in the artifact store. Ids sort by their making, byte by byte.
create table files (
    file_id text collate "C" primary key,
    tenant text not null,
    filename text not null,
    purpose text not null,
    digest text not null,
    bytes_count bigint not null,
    create_time timestamptz not null,
    expire_time timestamptz
);
create index files_by_tenant on files (tenant, file_id);
create index files_by_digest on files (digest);
create index files_that_expire on files (expire_time) where expire_time is not null;

create table uploads (
    upload_id text collate "C" primary key,
    tenant text not null,
    filename text not null,
    mime_type text not null,
    purpose text not null,
    bytes_count bigint not null,
    expires_after_seconds integer,
    create_time timestamptz not null,
    expire_time timestamptz not null,
    state text not null,
    file_id text not null
);
create index uploads_that_are_pending on uploads (tenant, expire_time) where state = 'pending';

create table upload_parts (
    part_id text collate "C" primary key,
    upload_id text not null references uploads,
    digest text not null,
    bytes_count bigint not null,
    create_time timestamptz not null
);
create index upload_parts_by_upload on upload_parts (upload_id);
create index upload_parts_by_digest on upload_parts (digest);

-- Bytes that something has ceased to name, and when they may be erased if nothing else names them.
create table erasures (
    digest text primary key,
    due_time timestamptz not null
);

-- Keys that may do everything may do this too.
update api_keys set scopes = scopes || array['files:read', 'files:write']
where scopes @> array[
    'heads:read', 'heads:write', 'match:read', 'outcomes:write', 'runs:read', 'runs:write',
    'schema:read', 'schema:write', 'users:read', 'users:write'
];

-- Endpoints of webhooks and what is on its way to them. Secrets are kept as they are: they sign.
create table webhook_endpoints (
    endpoint_id text collate "C" primary key,
    tenant text not null,
    name text not null,
    url text not null,
    event_types text[] not null,
    secret text not null,
    old_secret text,
    old_secret_expire_time timestamptz,
    create_time timestamptz not null,
    update_time timestamptz not null,
    disabled boolean not null
);
create index webhook_endpoints_by_tenant on webhook_endpoints (tenant, endpoint_id);

create table webhook_deliveries (
    event_id text not null,
    endpoint_id text not null references webhook_endpoints on delete cascade,
    event_type text not null,
    body text not null,
    state text not null,
    attempts_count integer not null,
    status_code integer,
    failure text not null,
    create_time timestamptz not null,
    next_time timestamptz,
    primary key (endpoint_id, event_id)
);
create index webhook_deliveries_that_are_pending on webhook_deliveries (next_time) where next_time is not null;
create index webhook_deliveries_by_time on webhook_deliveries (create_time);

-- Whether the end of a job has been told.
alter table tuning_jobs add column announced boolean not null default false;
create index tuning_jobs_unannounced on tuning_jobs (job_id) where not announced;

-- Keys that may do everything may do this too.
update api_keys set scopes = scopes || array['webhooks:read', 'webhooks:write']
where scopes @> array[
    'heads:read', 'heads:write', 'match:read', 'outcomes:write', 'runs:read', 'runs:write',
    'schema:read', 'schema:write', 'users:read', 'users:write'
];

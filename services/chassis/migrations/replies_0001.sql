-- First answers to requests that carry an id.
create table replies (
    tenant text not null,
    request_id text not null,
    fingerprint bytea not null,
    reply bytea,
    create_time timestamptz not null default now(),
    primary key (tenant, request_id)
);

create index replies_by_age on replies (create_time);

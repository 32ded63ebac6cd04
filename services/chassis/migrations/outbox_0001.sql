-- Events of committed transactions, waiting to be published and kept for rebuilding the stream.
create table outbox (
    id bigint generated always as identity primary key,
    event_id uuid not null unique,
    subject text not null,
    payload text not null,
    create_time timestamptz not null default now(),
    publish_time timestamptz
);

create index outbox_waiting on outbox (id) where publish_time is null;

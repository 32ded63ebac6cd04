-- Events of one resource are numbered in the order in which they came to be, and all can be published again under new ids.
alter table outbox
    add column about text not null default '',     -- tenant/domain/resource; empty before there were numbers
    add column sequence bigint not null default 0, -- from 1, per resource
    add column epoch integer not null default 0;   -- how often it was published again for a stream made anew

create index outbox_by_resource on outbox (about, id) where about <> '';

-- The number of each resource's last event: held by who adds one until their commit, so numbers commit in their order.
create table outbox_sequences (
    about text primary key,
    tenant text not null,
    last bigint not null
);

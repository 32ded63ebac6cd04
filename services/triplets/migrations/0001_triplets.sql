-- Domains, the people in them, and what happened between them.

-- One row a domain: locked by every change of the domain, so that revisions commit in their order.
create table domains (
    tenant text not null,
    domain text not null,
    schema jsonb not null,
    revision bigint not null default 0,
    schema_revision bigint not null default 0,
    users_count integer not null default 0,
    triplets_count bigint not null default 0 check (triplets_count >= 0),
    trained_triplets_count bigint not null default 0,
    primary key (tenant, domain)
);

-- People. Numbers are dense and never reused: they index the arrays of serving and trainer.
create table users (
    tenant text not null,
    domain text not null,
    number integer not null,
    user_id text not null,
    revision bigint not null,
    context text not null,
    fields jsonb not null,
    columns bytea not null, -- float64 little-endian, one per column of the schema at the time
    vector bytea,           -- float16 little-endian
    encoder text not null,
    update_time timestamptz not null,
    primary key (tenant, domain, number),
    unique (tenant, domain, user_id),
    foreign key (tenant, domain) references domains
);

create index users_by_revision on users (tenant, domain, revision);

-- What outcomes say about each person: standing outcomes counted per level.
create table tallies (
    tenant text not null,
    domain text not null,
    number integer not null,
    revision bigint not null,
    given integer[] not null,
    received integer[] not null,
    primary key (tenant, domain, number),
    foreign key (tenant, domain, number) references users
);

create index tallies_by_revision on tallies (tenant, domain, revision);

-- Everything that was ever reported, never changed. Of a pair the latest word stands; see core/outcome.py.
create table outcomes (
    outcome_id bigint generated always as identity primary key,
    tenant text not null,
    domain text not null,
    revision bigint not null,
    seeker integer not null,
    candidate integer not null,
    label text not null,
    level smallint not null,
    weight double precision not null check (weight > 0),
    occurred_at timestamptz not null,
    foreign key (tenant, domain) references domains
);

create index outcomes_by_pair on outcomes
    (tenant, domain, seeker, candidate, occurred_at desc, level desc, weight desc);

-- What is said of people piece by piece, where their values come from, and what erasing them leaves behind.

alter table users add column provenance jsonb not null default '{}'; -- field: [source, time]

create table contexts (
    arrival bigint generated always as identity,
    domain_id integer not null,
    number integer not null,
    context_id text not null,
    content text not null,
    source text not null,
    occurred_at timestamptz not null,
    primary key (domain_id, number, context_id),
    foreign key (domain_id, number) references users on delete cascade
);

-- Numbers whose people were erased: nobody gets them again, and serving hears of them.
create table erased (
    domain_id integer not null references domains (domain_id),
    number integer not null,
    revision bigint not null,
    primary key (domain_id, number)
);

create index erased_by_revision on erased (domain_id, revision);

-- Snapshots ever taken: each holds whoever had one of the first users_count numbers.
create table snapshots (
    snapshot_id bigint generated always as identity primary key,
    domain_id integer not null references domains (domain_id),
    digest text not null,
    users_count integer not null,
    unique (domain_id, digest)
);

-- What was said of a person is found for their erasure.
create index outcomes_by_candidate on outcomes (domain_id, candidate);

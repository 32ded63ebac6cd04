-- Jobs, runs, leases, heads and the pointer to the one in use.

-- A wish to train, never changed.
create table jobs (
    job_id bigint generated always as identity primary key,
    tenant text not null,
    domain text not null,
    trigger text not null,
    forced boolean not null,
    revision bigint not null,
    triplets_count bigint not null,
    seed bigint not null,
    create_time timestamptz not null default now()
);

-- The next number of a tenant's runs of a day.
create table run_numbers (
    tenant text not null,
    day date not null,
    number integer not null,
    primary key (tenant, day)
);

create sequence lease_tokens;

-- The execution of a job.
create table runs (
    tenant text not null,
    run_id text not null,
    job_id bigint not null references jobs,
    domain text not null,
    state text not null check (state in (
        'queued', 'starting', 'running', 'evaluating', 'exporting', 'succeeded', 'cancelled', 'failed'
    )),
    attempt integer not null default 0,
    token bigint not null default 0,
    trainer text not null default '',
    lease_expire_time timestamptz,
    incumbent text not null default '',
    snapshot_digest text not null default '',
    checkpoint_digest text not null default '',
    steps_done_count integer not null default 0,
    steps_count integer not null default 0,
    head text not null default '',
    verdict jsonb,
    failure jsonb,
    triplets_told boolean not null default false,
    create_time timestamptz not null default clock_timestamp(),
    start_time timestamptz,
    end_time timestamptz,
    primary key (tenant, run_id),
    check ((lease_expire_time is not null) = (state in ('starting', 'running', 'evaluating', 'exporting')))
);

-- One active run per tenant and domain: races are settled here.
create unique index runs_active on runs (tenant, domain)
where state in ('queued', 'starting', 'running', 'evaluating', 'exporting');

create index runs_queued on runs (create_time) where state = 'queued';
create index runs_leased on runs (lease_expire_time) where lease_expire_time is not null;
create index runs_untold on runs (end_time) where state = 'succeeded' and not triplets_told;
create index runs_by_domain on runs (tenant, domain, create_time desc);

-- Every move of every run, append-only: a run's state is the last of them.
create table transitions (
    tenant text not null,
    run_id text not null,
    number integer not null,
    state text not null,
    attempt integer not null,
    token bigint not null,
    move_time timestamptz not null default clock_timestamp(),
    primary key (tenant, run_id, number),
    foreign key (tenant, run_id) references runs
);

create table loss_points (
    tenant text not null,
    run_id text not null,
    step integer not null,
    loss double precision not null,
    validation_ndcg_at_10 double precision not null,
    stage text not null,
    primary key (tenant, run_id, step),
    foreign key (tenant, run_id) references runs
);

create table heads (
    tenant text not null,
    domain text not null,
    head text not null,
    run_id text not null,
    parent text not null,
    tier text not null,
    manifest_digest text not null,
    verdict jsonb not null,
    create_time timestamptz not null,
    primary key (tenant, head),
    unique (tenant, run_id),
    foreign key (tenant, run_id) references runs
);

create index heads_by_domain on heads (tenant, domain, create_time desc);

-- The head in use; empty means the encoder alone. A head must exist to be in use.
create table pointers (
    tenant text not null,
    domain text not null,
    head text not null,
    primary key (tenant, domain)
);

-- Every move of the pointer, append-only.
create table promotions (
    promotion_id bigint generated always as identity primary key,
    tenant text not null,
    domain text not null,
    head text not null,
    previous text not null,
    reason text not null,
    move_time timestamptz not null default clock_timestamp()
);

create index promotions_by_domain on promotions (tenant, domain, promotion_id desc);

-- Runs that learn from files: they belong to no domain and make named models.
alter table jobs add column files jsonb;

alter table runs
    add column model text not null default '',
    add column dataset jsonb,
    add column dataset_time timestamptz,
    add column result jsonb;

-- One active run per domain; runs from files have none.
drop index runs_active;
create unique index runs_active on runs (tenant, domain) where domain <> '' and state in (
    'queued', 'starting', 'running', 'evaluating', 'exporting', 'pausing', 'paused', 'stopping'
);

-- No two runs of a tenant make models of one name.
create unique index runs_by_model on runs (tenant, model) where model <> '';

alter table loss_points
    add column validation_loss double precision,
    add column create_time timestamptz not null default clock_timestamp();

-- Models as they were after some steps.
create table checkpoints (
    tenant text not null,
    run_id text not null,
    step integer not null,
    training_loss double precision not null,
    validation_loss double precision,
    validation_ndcg_at_10 double precision,
    manifest_digest text not null,
    create_time timestamptz not null default clock_timestamp(),
    primary key (tenant, run_id, step),
    foreign key (tenant, run_id) references runs
);

-- A deleted model is used by nobody; it stays as the ancestor of those that went on from it.
alter table heads add column deleted boolean not null default false;

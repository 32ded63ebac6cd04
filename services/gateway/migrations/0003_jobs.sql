-- Fine-tuning jobs: what was asked for, and the scheduler's run that does it.
create table tuning_jobs (
    job_id text collate "C" primary key,
    tenant text not null,
    wish jsonb not null,
    training_file_id text not null,
    validation_file_id text,
    given jsonb not null,
    metadata jsonb,
    create_time timestamptz not null,
    fingerprint bytea not null,
    request_key text not null,
    run_id text not null,
    result_file_id text not null,
    -- The same request is a new wish.
    released boolean not null default false
);
create index tuning_jobs_by_tenant on tuning_jobs (tenant, job_id);
create index tuning_jobs_by_fingerprint on tuning_jobs (tenant, fingerprint);
create index tuning_jobs_by_key on tuning_jobs (tenant, request_key) where request_key <> '';
create index tuning_jobs_without_run on tuning_jobs (job_id) where run_id = '';

create table checkpoint_permissions (
    permission_id text collate "C" primary key,
    tenant text not null,
    checkpoint text not null,
    project text not null,
    create_time timestamptz not null,
    unique (tenant, checkpoint, project)
);

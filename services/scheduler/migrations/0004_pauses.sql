-- Runs that are paused, and runs that end early with what they have learned.
alter table runs add column stop_requested boolean not null default false;

alter table runs
    drop constraint runs_state_check,
    drop constraint runs_check,
    add constraint runs_state_check check (state in (
        'queued', 'starting', 'running', 'evaluating', 'exporting', 'pausing', 'paused', 'stopping',
        'succeeded', 'stopped', 'cancelled', 'failed'
    )),
    add constraint runs_lease_check check (
        (lease_expire_time is not null)
        = (state in ('starting', 'running', 'evaluating', 'exporting', 'pausing', 'stopping'))
    );

-- A paused run is still the domain's one active run.
drop index runs_active;
create unique index runs_active on runs (tenant, domain) where state in (
    'queued', 'starting', 'running', 'evaluating', 'exporting', 'pausing', 'paused', 'stopping'
);

drop index runs_untold;
create index runs_untold on runs (end_time) where state in ('succeeded', 'stopped') and not triplets_told;

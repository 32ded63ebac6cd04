-- Whether what a run has measured is kept where its job asks for it.
alter table tuning_jobs add column tracked boolean not null default false;
create index tuning_jobs_untracked on tuning_jobs (job_id)
where announced and not tracked and jsonb_typeof(given -> 'integrations') = 'array';

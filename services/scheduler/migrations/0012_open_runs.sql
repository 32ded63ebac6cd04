-- What is asked every second, and with every run that is read, is found without looking through the runs of years.
create index runs_open on runs (state) where state in (
    'queued', 'starting', 'running', 'evaluating', 'exporting', 'pausing', 'paused', 'stopping'
);

create index runs_past on runs (end_time desc) where state = 'succeeded' and attempt = 1 and domain <> '';

-- Of runs from files nobody is told: they would stay in the index for ever.
drop index runs_untold;
create index runs_untold on runs (end_time)
where state in ('succeeded', 'stopped') and not triplets_told and domain <> '';

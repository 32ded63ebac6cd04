-- What every match showed. People are numbers here, so that nothing names whoever has been erased.
create table exposures (
    match_id text primary key, -- sorts by time
    domain_id integer not null references domains (domain_id),
    head text not null,
    tier text not null,
    run_id text not null,
    match_time timestamptz not null,
    seeker integer not null,
    first_rank integer not null,
    candidates integer [] not null,
    scores double precision [] not null
);

create index exposures_by_time on exposures (match_time);

-- Matches that are part of a rollout, and which of its two heads ranked them.
alter table exposures
    add column rollout_id text not null default '',
    add column arm text not null default '';

create index exposures_by_rollout on exposures (domain_id, rollout_id) where rollout_id <> '';
create index outcomes_by_match on outcomes (match_id) where match_id <> '';

-- How pages came to stand in their order; null where the ranker's was certain to be shown.
alter table exposures
    add column exploration double precision, -- probability with which the page was shuffled
    add column explored boolean,             -- whether it was
    add column ranker_ranks integer [],      -- where the ranker had put whom the page shows, from 1
    add column propensities double precision []; -- of each candidate where it was shown

create index exposures_explored on exposures (domain_id, match_id) where exploration is not null;

-- In a domain where nobody says no, positive outcomes are counted instead of triplets.
alter table domains add column positives_count bigint not null default 0 check (positives_count >= 0);

update domains as d set positives_count = t.positives
from (select domain_id, sum(given[3] + given[4]) as positives from tallies group by domain_id) as t
where t.domain_id = d.domain_id;

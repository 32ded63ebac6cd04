-- What must always hold of people and outcomes: each query names what breaks its rule. Domains are looked at as wholes where a
-- sum tells all; of people those whose tallies changed last, and some others by chance.

-- name: I2_sums
-- An outcome counts once for who gave it and once for whom it is about: both sides add up to the same, level by level.
select d.tenant || '/' || d.domain as offender
from domains as d
join lateral (
    select
        coalesce(sum(given[1]), 0) as g1, coalesce(sum(given[2]), 0) as g2,
        coalesce(sum(given[3]), 0) as g3, coalesce(sum(given[4]), 0) as g4,
        coalesce(sum(received[1]), 0) as r1, coalesce(sum(received[2]), 0) as r2,
        coalesce(sum(received[3]), 0) as r3, coalesce(sum(received[4]), 0) as r4
    from tallies as t where t.domain_id = d.domain_id
) as s on true
where (g1, g2, g3, g4) <> (r1, r2, r3, r4)

-- name: I3_tallies
-- What a person gave counts as their standing outcomes do: none left out, none twice.
with looked_at as (
    select t.domain_id, t.number, t.given
    from (select domain_id, revision from domains order by random() limit 50) as d
    cross join lateral (
        (
            select domain_id, number, given from tallies as t
            where t.domain_id = d.domain_id order by revision desc limit 20
        )
        union
        (
            select domain_id, number, given from tallies as t
            where t.domain_id = d.domain_id and t.revision >= floor(random() * d.revision) order by revision limit 20
        )
    ) as t
),

standing as (
    select distinct on (l.domain_id, l.number, o.candidate) l.domain_id, l.number, o.level
    from looked_at as l join outcomes as o on o.domain_id = l.domain_id and o.seeker = l.number
    order by l.domain_id, l.number, o.candidate, o.occurred_at desc, o.level desc, o.weight desc
)

select d.tenant || '/' || d.domain || ' person ' || l.number as offender
from looked_at as l join domains as d using (domain_id)
where l.given <> array(
    select (
        select count(*)::integer from standing as s
        where s.domain_id = l.domain_id and s.number = l.number and s.level = level.number
    )
    from generate_series(0, 3) as level (number) order by level.number
)

-- name: I3_triplets
-- The triplet count of a domain is what its people's tallies give by the rule's closed form, and so are its positive outcomes.
select d.tenant || '/' || d.domain as offender
from domains as d
join lateral (
    select
        coalesce(sum(
            given[2]::bigint * least($1::integer, given[1])
            + given[3]::bigint * least($1::integer, given[1] + given[2])
            + given[4]::bigint * least($1::integer, given[1] + given[2] + given[3])
        ), 0) as triplets,
        coalesce(sum(given[3] + given[4]), 0) as positives
    from tallies as t where t.domain_id = d.domain_id
) as s on true
where (d.triplets_count, d.positives_count) <> (s.triplets, s.positives)

-- name: I3_revisions
-- Nothing of a domain is newer than its revision: whoever follows changes from there has missed nothing.
select d.tenant || '/' || d.domain as offender
from domains as d
where
    exists (select from users as u where u.domain_id = d.domain_id and u.revision > d.revision)
    or exists (select from tallies as t where t.domain_id = d.domain_id and t.revision > d.revision)
    or exists (select from outcomes as o where o.domain_id = d.domain_id and o.revision > d.revision)
    or exists (select from erased as e where e.domain_id = d.domain_id and e.revision > d.revision)

-- name: I20_erased
-- Nothing is left of who has been erased: no profile, text, tally or outcome.
with gone as (select domain_id, number from erased order by domain_id desc, revision desc limit 1000)

select d.tenant || '/' || d.domain || ' person ' || g.number as offender
from gone as g join domains as d using (domain_id)
where
    exists (select from users as u where u.domain_id = g.domain_id and u.number = g.number)
    or exists (select from contexts as c where c.domain_id = g.domain_id and c.number = g.number)
    or exists (select from tallies as t where t.domain_id = g.domain_id and t.number = g.number)
    or exists (select from outcomes as o where o.domain_id = g.domain_id and o.seeker = g.number)
    or exists (select from outcomes as o where o.domain_id = g.domain_id and o.candidate = g.number)

-- name: I20_numbers
-- Every number of a domain is somebody's or was taken from them: nobody is lost and no number given twice.
select d.tenant || '/' || d.domain as offender
from domains as d
where d.users_count <> (
    (select count(*) from users as u where u.domain_id = d.domain_id)
    + (select count(*) from erased as e where e.domain_id = d.domain_id)
)

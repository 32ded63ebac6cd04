-- Everything that the triplet store asks of PostgreSQL.

-- name: create_domain
insert into domains (tenant, domain, schema) values ($1, $2, $3) on conflict do nothing returning true;

-- name: count_domains
select count(*) from domains where tenant = $1;

-- name: lock_domain
select
    domain_id, schema, labels, shared, revision, users_count, triplets_count, positives_count, trained_triplets_count
from domains where tenant = $1 and domain = $2 for update;

-- name: commit_revision
update domains set
    revision = $2, users_count = $3, triplets_count = triplets_count + $4, positives_count = positives_count + $5
where domain_id = $1;

-- name: save_schema
update domains set schema = $2, schema_revision = $3 where domain_id = $1;

-- name: save_labels
update domains set labels = $2 where domain_id = $1;

-- name: save_shared
update domains set shared = $2 where domain_id = $1;

-- name: forget_shared_trained
delete from shared_domains where domain = $1;

-- name: save_trained_count
update domains set trained_triplets_count = $2 where domain_id = $1;

-- name: find_numbers
-- Lateral and with a limit, so that the planner goes to the index id by id. Left a choice it scans the whole domain,
-- as long as it has not heard how large that has become.
select u.user_id, u.number
from unnest($2::text[]) as wanted (user_id)
cross join lateral (
    select user_id, number from users where domain_id = $1 and user_id = wanted.user_id limit 1
) as u;

-- name: standing_words
select p.seeker, p.candidate, o.occurred_at, o.level, o.weight
from unnest($2::integer[], $3::integer[]) as p (seeker, candidate)
cross join lateral (
    select occurred_at, level, weight from outcomes
    where domain_id = $1 and seeker = p.seeker and candidate = p.candidate
    order by occurred_at desc, level desc, weight desc limit 1
) as o;

-- name: tallies
-- Lateral for the same reason.
select t.number, t.given, t.received
from unnest($2::integer[]) as wanted (number)
cross join lateral (
    select number, given, received from tallies where domain_id = $1 and number = wanted.number limit 1
) as t;

-- name: add_outcomes
-- Not copied: PostgreSQL copies nothing into a table with row-level security.
insert into outcomes (domain_id, revision, seeker, candidate, label, occurred_at, level, weight, match_id)
select $1, $2, o.* from unnest(
    $3::integer[], $4::integer[], $5::text[], $6::timestamptz[], $7::smallint[], $8::double precision[], $9::text[]
) as o;

-- name: save_tallies
-- Every tally exists: this is an update that goes to the index number by number.
insert into tallies (domain_id, number, revision, given, received)
select $1, number, $2, array[g0, g1, g2, g3], array[r0, r1, r2, r3]
from unnest(
    $3::integer[], $4::integer[], $5::integer[], $6::integer[], $7::integer[],
    $8::integer[], $9::integer[], $10::integer[], $11::integer[]
) as n (number, g0, g1, g2, g3, r0, r1, r2, r3)
on conflict (domain_id, number) do update set
    revision = excluded.revision,
    given = excluded.given,
    received = excluded.received;

-- name: save_users
-- Everyone comes with their number: theirs, or the next one for somebody new.
with saved as (
    insert into users
    (domain_id, number, user_id, revision, context, fields, provenance, columns, vector, encoder, update_time)
    select
        $1, number, user_id, $2, context, fields::jsonb, provenance::jsonb, columns, vector, encoder,
        statement_timestamp()
    from unnest(
        $3::integer[], $4::text[], $5::text[], $6::text[], $7::text[], $8::bytea[], $9::bytea[], $10::text[]
    ) as n (number, user_id, context, fields, provenance, columns, vector, encoder)
    on conflict (domain_id, user_id) do update set
        revision = excluded.revision,
        context = excluded.context,
        fields = excluded.fields,
        provenance = excluded.provenance,
        columns = excluded.columns,
        vector = excluded.vector,
        encoder = excluded.encoder,
        update_time = excluded.update_time
    returning number
),

tallied as (
    insert into tallies (domain_id, number, revision, given, received)
    select $1, number, $2, '{0,0,0,0}', '{0,0,0,0}' from saved
    on conflict do nothing
)

select statement_timestamp();

-- name: forget_contexts
delete from contexts where domain_id = $1 and number = any($2::integer[]);

-- name: read_revision
select revision from users where domain_id = $1 and user_id = $2;

-- name: touch_user
update users set
    revision = $3,
    vector = coalesce($4, vector),
    encoder = case when $4 is null then encoder else $5 end,
    update_time = case when $4 is null then update_time else statement_timestamp() end
where domain_id = $1 and user_id = $2
returning number;

-- name: save_values
update users set
    revision = $3,
    fields = $4,
    provenance = $5,
    columns = $6,
    update_time = statement_timestamp()
where domain_id = $1 and user_id = $2;

-- name: drop_contexts
delete from contexts where domain_id = $1 and number = $2 and context_id = any($3::text[]);

-- name: add_contexts
insert into contexts (domain_id, number, context_id, content, source, occurred_at)
select $1, $2, c.* from unnest($3::text[], $4::text[], $5::text[], $6::timestamptz[]) as c;

-- name: words_about
select distinct on (seeker, candidate) seeker, candidate, occurred_at, level, weight
from (
    select seeker, candidate, occurred_at, level, weight from outcomes where domain_id = $1 and seeker = $2
    union all
    select seeker, candidate, occurred_at, level, weight from outcomes where domain_id = $1 and candidate = $2
) as about
order by seeker, candidate, occurred_at desc, level desc, weight desc;

-- name: erase_given
delete from outcomes where domain_id = $1 and seeker = $2;

-- name: erase_received
delete from outcomes where domain_id = $1 and candidate = $2;

-- name: erase_tally
delete from tallies where domain_id = $1 and number = $2;

-- name: erase_user
-- Contexts go with the user.
delete from users where domain_id = $1 and number = $2;

-- name: mark_erased
insert into erased (domain_id, number, revision, id_hash, last_snapshot_id)
select $1, $2, $3, $4, coalesce(max(snapshot_id), 0) from snapshots where domain_id = $1;

-- name: was_erased_since
select exists(select from erased where domain_id = $1 and revision > $2);

-- name: save_snapshot
insert into snapshots (domain_id, digest, users_count, outdated) values ($1, $2, $3, $4)
on conflict (domain_id, digest) do update set outdated = snapshots.outdated or excluded.outdated;

-- name: outdate_snapshots
update snapshots set outdated = true where domain_id = $1 and users_count > $2 and not outdated;

-- name: list_outdated_snapshots
select digest from (
    select digest, min(snapshot_id) as age from snapshots where outdated and kept group by digest
) as found order by age limit 1000;

-- name: drop_snapshot
update snapshots set kept = false where digest = $1;

-- name: snapshots_with
select digest from snapshots where domain_id = $1 and users_count > $2
order by snapshot_id desc limit 1000;

-- name: knows_user
select exists (
    select from domains as d
    where
        d.tenant = $1 and ($2 = '' or d.domain = $2)
        and (
            exists (select from users as u where u.domain_id = d.domain_id and u.user_id = $3)
            or exists (select from erased as e where e.domain_id = d.domain_id and e.id_hash = $4)
        )
);

-- name: list_user_snapshots
-- Whoever is there is in every snapshot that goes up to their number; whoever was erased, in those taken before.
select d.domain, s.snapshot_id, s.digest, p.erased
from domains as d
cross join lateral (
    select u.number, 9223372036854775807 as last_snapshot_id, false as erased
    from users as u where u.domain_id = d.domain_id and u.user_id = $3
    union all
    select e.number, e.last_snapshot_id, true from erased as e where e.domain_id = d.domain_id and e.id_hash = $4
) as p
join snapshots as s on s.domain_id = d.domain_id and s.users_count > p.number and s.snapshot_id <= p.last_snapshot_id
where
    d.tenant = $1 and ($2 = '' or d.domain = $2)
    and (d.domain > $5 or (d.domain = $5 and s.snapshot_id < $6))
order by d.domain, s.snapshot_id desc limit $7;

-- name: read_schema
select schema from domains where tenant = $1 and domain = $2;

-- name: read_labels
select labels from domains where tenant = $1 and domain = $2;

-- name: read_user
select
    u.user_id, u.context, u.fields, u.provenance, u.vector, u.encoder, u.update_time, u.revision, d.domain, d.schema
from users as u join domains as d using (domain_id)
where d.tenant = $1 and d.domain = $2 and u.user_id = $3;

-- name: read_users
select
    u.user_id, u.context, u.fields, u.provenance, u.vector, u.encoder, u.update_time, u.revision, d.domain, d.schema
from users as u join domains as d using (domain_id)
where d.tenant = $1 and u.user_id = $2 order by d.domain limit 100;

-- name: read_contexts
select c.context_id, c.content, c.source, c.occurred_at
from contexts as c join users as u using (domain_id, number) join domains as d using (domain_id)
where d.tenant = $1 and d.domain = $2 and u.user_id = $3
order by c.occurred_at desc, c.arrival desc;

-- name: read_counts
select tenant, domain, revision, triplets_count, positives_count, trained_triplets_count
from domains where tenant = $1 and domain = $2;

-- name: count_outcomes
-- Levels from 0 on: rejected, expired, accepted, converted.
select
    coalesce(sum(t.given[1] + t.given[2] + t.given[3] + t.given[4]), 0) as outcomes_count,
    coalesce(sum(t.given[3] + t.given[4]), 0) as positives_count,
    count(*) filter (where t.given <> '{0,0,0,0}') as seekers_count
from domains as d left join tallies as t using (domain_id)
where d.tenant = $1 and d.domain = $2 group by d.domain_id;

-- name: list_counts
select tenant, domain, revision, triplets_count, positives_count, trained_triplets_count
from domains where (tenant, domain) > ($1, $2) and (triplets_count > 0 or positives_count > 0)
order by tenant, domain limit $3;

-- name: read_shared
select shared from domains where tenant = $1 and domain = $2;

-- name: list_shared
select
    tenant, domain, revision, triplets_count, positives_count, trained_triplets_count,
    schema ->> 'encoder' as encoder, (schema ->> 'dim')::integer as dim
from domains where shared and triplets_count > 0 and ($1 = '' or domain = $1)
order by tenant, domain;

-- name: read_shared_trained
select domain, trained_triplets_count from shared_domains;

-- name: save_shared_trained
insert into shared_domains (domain, trained_triplets_count) values ($1, $2)
on conflict (domain) do update set trained_triplets_count = excluded.trained_triplets_count;

-- name: read_revisions
select tenant, domain, revision from domains;

-- name: read_domain_head
select domain_id, schema, revision, schema_revision, users_count from domains where tenant = $1 and domain = $2;

-- name: erased_users
select number from erased where domain_id = $1 and revision > $2 order by revision, number;

-- name: changed_users
-- In the order of the changes: for that the index by revision is the best plan, whatever is known of the table.
select number, user_id, fields, columns, vector from users
where domain_id = $1 and revision > $2 order by revision, number;

-- name: changed_tallies
select number, given, received from tallies
where domain_id = $1 and revision > $2 order by revision, number;

-- name: all_pairs
select distinct on (seeker, candidate) seeker, candidate, level, occurred_at from outcomes
where domain_id = $1
order by seeker, candidate, occurred_at desc, level desc, weight desc;

-- name: changed_pairs
select p.seeker, p.candidate, o.level, o.occurred_at
from (select distinct seeker, candidate from outcomes where domain_id = $1 and revision > $2) as p
cross join lateral (
    select level, occurred_at from outcomes
    where domain_id = $1 and seeker = p.seeker and candidate = p.candidate
    order by occurred_at desc, level desc, weight desc limit 1
) as o;

-- name: all_users
select number, user_id, columns, vector from users where domain_id = $1 order by number;

-- name: standing_outcomes
-- A pair whose last word is a retraction has none.
select seeker, candidate, level, weight, occurred_at from (
    select distinct on (seeker, candidate) seeker, candidate, level, weight, occurred_at from outcomes
    where domain_id = $1 and revision <= $2
    order by seeker, candidate, occurred_at desc, level desc, weight desc
) as standing where level < $3;

-- name: record_exposure
insert into exposures
(
    match_id, domain_id, head, tier, run_id, match_time, seeker, first_rank, candidates, scores,
    exploration, explored, ranker_ranks, propensities, rollout_id, arm
)
select $3, domain_id, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17 from domains where tenant = $1 and domain = $2
on conflict do nothing;

-- name: read_exposure
select
    e.domain_id, e.match_id, d.domain, e.head, e.tier, e.run_id, e.match_time, e.seeker, e.first_rank, e.candidates, e.scores,
    e.exploration as share, e.explored, e.ranker_ranks, e.propensities, e.rollout_id, e.arm
from exposures as e join domains as d using (domain_id)
where d.tenant = $1 and e.match_id = $2;

-- name: logged_pages
-- The newest pages of matches that might have been explored, oldest first, each with what came of its candidates: the level of
-- the last word that names the match, -1 where none does.
with newest as (
    select match_id, match_time, seeker, explored, candidates, propensities from exposures
    where domain_id = $1 and exploration is not null order by match_id desc limit $3
),

fitting as (
    select *, sum(cardinality(candidates)) over (order by match_id desc) as slots from newest
)

select
    (extract(epoch from f.match_time) * 1000000)::bigint as match_micros, f.seeker, f.explored, f.candidates, f.propensities, levels.levels
from fitting as f
cross join lateral (
    select array_agg(coalesce(tied.level, -1) order by s.rank) as levels
    from unnest(f.candidates) with ordinality as s (candidate, rank)
    left join lateral (
        select o.level from outcomes as o
        where
            o.domain_id = $1 and o.seeker = f.seeker and o.candidate = s.candidate
            and o.match_id = f.match_id and o.revision <= $2
        order by o.occurred_at desc, o.level desc, o.weight desc limit 1
    ) as tied on true
) as levels
where f.slots <= $4 and cardinality(f.candidates) > 0
order by f.match_id;

-- name: read_names
select number, user_id from users where domain_id = $1 and number = any($2::integer[]);

-- name: count_arms
-- Of several words about a candidate of a match the standing one counts, unless it is a retraction ($3).
with shown as (
    select e.match_id, e.arm, e.seeker, e.candidates, e.domain_id
    from exposures as e join domains as d using (domain_id)
    where d.tenant = $1 and d.domain = $2 and e.rollout_id = $4 and e.rollout_id <> ''
),

words as (
    select distinct on (s.match_id, o.candidate) s.arm, s.seeker, o.level
    from shown as s
    join outcomes as o
        on o.match_id = s.match_id and o.match_id <> '' and o.domain_id = s.domain_id
        and o.seeker = s.seeker and o.candidate = any(s.candidates)
    order by s.match_id, o.candidate, o.occurred_at desc, o.level desc, o.weight desc
),

seekers as (
    select arm, count(*) as n, count(*) filter (where level >= $5) as p from words where level < $3 group by arm, seeker
),

sums as (
    select
        arm, count(*) as seekers_count, sum(n)::bigint as outcomes_count, sum(p)::bigint as positives_count,
        sum(n * n)::double precision as outcomes_squared_sum, sum(n * p)::double precision as products_sum,
        sum(p * p)::double precision as positives_squared_sum
    from seekers group by arm
)

select
    m.arm, m.matches_count, coalesce(seekers_count, 0) as seekers_count,
    coalesce(outcomes_count, 0) as outcomes_count, coalesce(positives_count, 0) as positives_count,
    coalesce(outcomes_squared_sum, 0) as outcomes_squared_sum, coalesce(products_sum, 0) as products_sum,
    coalesce(positives_squared_sum, 0) as positives_squared_sum
from (select arm, count(*) as matches_count from shown group by arm) as m left join sums using (arm);

-- name: prune_exposures
delete from exposures where match_time < now() - make_interval(days => $1);

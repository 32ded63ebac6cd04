-- Everything that the triplet store asks of PostgreSQL.

-- name: create_domain
insert into domains (tenant, domain, schema) values ($1, $2, $3) on conflict do nothing returning true;

-- name: lock_domain
select domain_id, schema, labels, revision, users_count, triplets_count, trained_triplets_count
from domains where tenant = $1 and domain = $2 for update;

-- name: commit_revision
update domains set revision = $2, users_count = $3, triplets_count = triplets_count + $4 where domain_id = $1;

-- name: save_schema
update domains set schema = $2, schema_revision = $3 where domain_id = $1;

-- name: save_labels
update domains set labels = $2 where domain_id = $1;

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

-- name: save_user
with saved as (
    insert into users
    (domain_id, number, user_id, revision, context, fields, columns, vector, encoder, update_time)
    values ($1, $2, $3, $4, $5, $6, $7, $8, $9, clock_timestamp())
    on conflict (domain_id, user_id) do update set
        revision = excluded.revision,
        context = excluded.context,
        fields = excluded.fields,
        columns = excluded.columns,
        vector = excluded.vector,
        encoder = excluded.encoder,
        update_time = excluded.update_time
    returning number, update_time
),

tallied as (
    insert into tallies (domain_id, number, revision, given, received)
    select $1, number, $4, '{0,0,0,0}', '{0,0,0,0}' from saved
    on conflict do nothing
)

select number, update_time from saved;

-- name: read_schema
select schema from domains where tenant = $1 and domain = $2;

-- name: read_labels
select labels from domains where tenant = $1 and domain = $2;

-- name: read_user
select u.user_id, u.context, u.fields, u.vector, u.encoder, u.update_time
from users as u join domains as d using (domain_id)
where d.tenant = $1 and d.domain = $2 and u.user_id = $3;

-- name: read_counts
select tenant, domain, revision, triplets_count, trained_triplets_count
from domains where tenant = $1 and domain = $2;

-- name: list_counts
select tenant, domain, revision, triplets_count, trained_triplets_count
from domains where (tenant, domain) > ($1, $2) and triplets_count > 0
order by tenant, domain limit $3;

-- name: read_revisions
select tenant, domain, revision from domains;

-- name: read_domain_head
select domain_id, schema, revision, schema_revision from domains where tenant = $1 and domain = $2;

-- name: changed_users
-- In the order of the changes: for that the index by revision is the best plan, whatever is known of the table.
select number, user_id, fields, columns, vector from users
where domain_id = $1 and revision > $2 order by revision, number;

-- name: changed_tallies
select number, given, received from tallies
where domain_id = $1 and revision > $2 order by revision, number;

-- name: all_pairs
select distinct on (seeker, candidate) seeker, candidate, level from outcomes
where domain_id = $1
order by seeker, candidate, occurred_at desc, level desc, weight desc;

-- name: changed_pairs
select p.seeker, p.candidate, o.level
from (select distinct seeker, candidate from outcomes where domain_id = $1 and revision > $2) as p
cross join lateral (
    select level from outcomes
    where domain_id = $1 and seeker = p.seeker and candidate = p.candidate
    order by occurred_at desc, level desc, weight desc limit 1
) as o;

-- name: all_users
select user_id, columns, vector from users where domain_id = $1 order by number;

-- name: standing_outcomes
-- A pair whose last word is a retraction has none.
select seeker, candidate, level, weight, occurred_at from (
    select distinct on (seeker, candidate) seeker, candidate, level, weight, occurred_at from outcomes
    where domain_id = $1 and revision <= $2
    order by seeker, candidate, occurred_at desc, level desc, weight desc
) as standing where level < $3;

-- Everything that the triplet store asks of PostgreSQL. $1 and $2 are tenant and domain wherever there is a domain.

-- name: create_domain
insert into domains (tenant, domain, schema) values ($1, $2, $3) on conflict do nothing returning true;

-- name: lock_domain
select schema, revision, users_count, triplets_count, trained_triplets_count
from domains where tenant = $1 and domain = $2 for update;

-- name: commit_revision
update domains
set revision = $3, users_count = $4, triplets_count = triplets_count + $5
where tenant = $1 and domain = $2;

-- name: save_schema
update domains set schema = $3, schema_revision = $4 where tenant = $1 and domain = $2;

-- name: save_trained_count
update domains set trained_triplets_count = $3 where tenant = $1 and domain = $2;

-- name: find_numbers
select user_id, number from users where tenant = $1 and domain = $2 and user_id = any($3::text[]);

-- name: standing_words
select p.seeker, p.candidate, o.occurred_at, o.level, o.weight
from unnest($3::integer[], $4::integer[]) as p (seeker, candidate)
cross join lateral (
    select occurred_at, level, weight from outcomes
    where tenant = $1 and domain = $2 and seeker = p.seeker and candidate = p.candidate
    order by occurred_at desc, level desc, weight desc limit 1
) as o;

-- name: tallies
select number, given, received from tallies
where tenant = $1 and domain = $2 and number = any($3::integer[]);

-- name: append_outcomes
insert into outcomes (tenant, domain, revision, seeker, candidate, label, level, weight, occurred_at)
select $1, $2, $3, o.* from unnest(
    $4::integer[], $5::integer[], $6::text[], $7::smallint[], $8::double precision[], $9::timestamptz[]
) as o;

-- name: save_tallies
update tallies as t
set
    revision = $3,
    given = array[n.g0, n.g1, n.g2, n.g3],
    received = array[n.r0, n.r1, n.r2, n.r3]
from unnest(
    $4::integer[], $5::integer[], $6::integer[], $7::integer[], $8::integer[],
    $9::integer[], $10::integer[], $11::integer[], $12::integer[]
) as n (number, g0, g1, g2, g3, r0, r1, r2, r3)
where t.tenant = $1 and t.domain = $2 and t.number = n.number;

-- name: save_user
insert into users
(tenant, domain, number, user_id, revision, context, fields, columns, vector, encoder, update_time)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp())
on conflict (tenant, domain, user_id) do update set
    revision = excluded.revision,
    context = excluded.context,
    fields = excluded.fields,
    columns = excluded.columns,
    vector = excluded.vector,
    encoder = excluded.encoder,
    update_time = excluded.update_time
returning number, update_time;

-- name: add_tally
insert into tallies (tenant, domain, number, revision, given, received)
values ($1, $2, $3, $4, '{0,0,0,0}', '{0,0,0,0}');

-- name: read_schema
select schema from domains where tenant = $1 and domain = $2;

-- name: read_user
select user_id, context, fields, vector, encoder, update_time
from users where tenant = $1 and domain = $2 and user_id = $3;

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
select schema, revision, schema_revision from domains where tenant = $1 and domain = $2;

-- name: changed_users
select number, user_id, fields, columns, vector from users
where tenant = $1 and domain = $2 and revision > $3 order by number;

-- name: changed_tallies
select number, given, received from tallies
where tenant = $1 and domain = $2 and revision > $3 order by number;

-- name: all_users
select user_id, columns, vector from users where tenant = $1 and domain = $2 order by number;

-- name: standing_outcomes
select distinct on (seeker, candidate) seeker, candidate, level, weight, occurred_at from outcomes
where tenant = $1 and domain = $2 and revision <= $3
order by seeker, candidate, occurred_at desc, level desc, weight desc;

-- What must always hold of runs, leases, heads and events: each query names what breaks its rule.

-- name: I4_one_active_run
-- A tenant's domain has one active run at most.
select tenant || '/' || domain as offender from runs
where domain <> '' and state = any($1::text[])
group by tenant, domain having count(*) > 1

-- name: I4_index
-- The index that settles races for a domain is there, valid, and knows every active state.
select 'runs_active' as offender
where not exists (
    select from pg_index
    where
        indexrelid = to_regclass('runs_active') and indisvalid and indisunique
        and (
            select bool_and(pg_get_expr(indpred, indrelid) like '%''' || state || '''%')
            from unnest($1::text[]) as state
        )
)

-- name: I5_leases
-- No lease is over for more than a minute: the run is taken back.
select tenant || '/' || run_id as offender from runs
where lease_expire_time < clock_timestamp() - interval '1 minute'

-- name: I5_ages
-- No run is in a state for longer than that may last.
select r.tenant || '/' || r.run_id || ' ' || r.state as offender
from runs as r
join unnest($1::text[], $2::double precision[]) as age (state, seconds) using (state)
join lateral (
    select move_time from transitions as t
    where t.tenant = r.tenant and t.run_id = r.run_id order by number desc limit 1
) as last on true
where last.move_time < clock_timestamp() - make_interval(secs => age.seconds)

-- name: I6_tokens
-- Each lease has a token of its own, larger than those of the run's leases before.
with newest as (
    select tenant, run_id, number, state, token from transitions order by move_time desc limit 20000
)

select 'token ' || token as offender from newest where state = 'starting' group by token having count(*) > 1
union all
select tenant || '/' || run_id from (
    select tenant, run_id, token, lag(token) over (partition by tenant, run_id order by number) as before
    from newest
) as moves where token < before

-- name: I9_pointers
-- The head in use passed the gate.
select p.tenant || '/' || p.domain || ' ' || p.head as offender
from pointers as p
where
    p.head <> ''
    and not exists (
        select from heads as h
        where
            h.tenant = p.tenant and h.domain = p.domain and h.head = p.head and not h.deleted
            and (
                (h.verdict ->> 'promoted')::boolean
                or (
                    select count(*) > 0 and bool_and((rule ->> 'passed')::boolean)
                    from jsonb_array_elements(coalesce(h.verdict -> 'rules', '[]')) as rule
                )
            )
    )

-- name: I13_waiting
-- No event waits to be published for more than a minute.
select event_id::text as offender from outbox
where publish_time is null and create_time < clock_timestamp() - interval '1 minute' order by id

-- name: I13_order
-- The events of a resource are numbered without a gap as they came to be, and none is published before an earlier one.
with newest as (
    select id, about, sequence, publish_time from outbox where about <> '' order by id desc limit 20000
),

pairs as (
    select
        about, sequence, publish_time,
        lag(sequence) over (partition by about order by id) as before,
        lag(publish_time) over (partition by about order by id) as published_before
    from newest
)

select distinct about as offender from pairs
where before is not null and (sequence <> before + 1 or (publish_time is not null and published_before is null))
union
select n.about from newest as n join outbox_sequences as s using (about)
group by n.about, s.last having max(n.sequence) <> s.last

-- name: I15_runs
-- A run's history is a row of legal moves from "queued" on, and its last move is the run's state.
with newest as (select tenant, run_id, state, attempt, token from runs order by create_time desc limit 5000),

moves as (
    select
        n.tenant, n.run_id, t.number, t.state, t.attempt, t.token,
        lag(t.state) over (partition by n.tenant, n.run_id order by t.number) as before,
        row_number() over (partition by n.tenant, n.run_id order by t.number) as place
    from newest as n join transitions as t using (tenant, run_id)
),

legal as (select * from unnest($1::text[], $2::text[]) as l (before, state))

select tenant || '/' || run_id as offender from moves
where
    number <> place
    or (before is null and state <> 'queued')
    or (before is not null and (before, state) not in (select l.before, l.state from legal as l))
union
select n.tenant || '/' || n.run_id from newest as n
where not exists (
    select from moves as m
    where
        m.tenant = n.tenant and m.run_id = n.run_id
        and m.number = (select max(number) from transitions as t where t.tenant = n.tenant and t.run_id = n.run_id)
        and (m.state, m.attempt, m.token) = (n.state, n.attempt, n.token)
)

-- name: I15_pointers
-- The head in use is the one of the domain's last promotion, and each promotion goes on from the one before.
select p.tenant || '/' || p.domain as offender from pointers as p
where p.head <> coalesce(
    (
        select head from promotions as o
        where o.tenant = p.tenant and o.domain = p.domain order by promotion_id desc limit 1
    ), ''
)
union
select tenant || '/' || domain from (
    select tenant, domain, previous, lag(head) over (partition by tenant, domain order by promotion_id) as before
    from promotions
) as moves where before <> '' and previous <> before

-- name: I19_leases
-- No lease ends further ahead than leases last, by the database's clock.
select tenant || '/' || run_id as offender from runs
where lease_expire_time > clock_timestamp() + make_interval(secs => $1::double precision + 1)

-- name: I22_authors
-- Every move of a run and of a pointer, and every other change, has an author, from an hour after the release that keeps them.
with since as (select apply_time + interval '1 hour' as moment from migrations where name = '0010_authors')

select t.tenant || '/' || t.run_id || ' ' || t.state as offender from transitions as t, since as s
where t.move_time > s.moment and t.author in ('', 'unknown')
union all
select p.tenant || '/' || p.domain || ' ' || p.head from promotions as p, since as s
where p.move_time > s.moment and p.author in ('', 'unknown')
union all
select c.tenant || '/' || c.name || ' ' || c.kind from changes as c where c.author in ('', 'unknown')
union all
select r.tenant || '/' || r.rollout_id || ' ' || r.step
from rollouts as r join migrations as m on m.name = '0013_changes' and r.step_time > m.apply_time + interval '1 hour'
where not exists (
    select from changes as c
    where c.tenant = r.tenant and c.kind = 'rollout' and c.name = r.rollout_id and c.value = r.step
)

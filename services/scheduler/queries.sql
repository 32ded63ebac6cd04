-- Everything that the scheduler asks of PostgreSQL. Times are the database's: leases go by no other clock.

-- name: next_number
insert into run_numbers (tenant, day, number) values ($1, $2, 1)
on conflict (tenant, day) do update set number = run_numbers.number + 1 returning number;

-- name: today
select (now() at time zone 'utc')::date;

-- name: add_job
insert into jobs (tenant, domain, trigger, forced, revision, triplets_count, seed, files)
values ($1, $2, $3, $4, $5, $6, $7, $8) returning job_id;

-- name: add_run
insert into runs (tenant, run_id, job_id, domain, model, state) values ($1, $2, $3, $4, $5, 'queued')
on conflict (tenant, domain) where domain <> '' and state in (
    'queued', 'starting', 'running', 'evaluating', 'exporting', 'pausing', 'paused', 'stopping'
)
do nothing returning run_id;

-- name: active_run
select r.*, j.trigger, j.forced, j.revision, j.triplets_count, j.seed, j.files
from runs as r join jobs as j using (job_id)
where
    r.tenant = $1 and r.domain = $2
    and r.state in (
        'queued', 'starting', 'running', 'evaluating', 'exporting', 'pausing', 'paused', 'stopping'
    );

-- name: take_file_runs_turn
select pg_advisory_xact_lock(hashtextextended('scheduler.file_runs/' || $1, 0));

-- name: file_runs_count
select count(*) from runs
where
    tenant = $1 and model <> ''
    and state in (
        'queued', 'starting', 'running', 'evaluating', 'exporting', 'pausing', 'paused', 'stopping'
    );

-- name: find_file_run
select r.*, j.trigger, j.forced, j.revision, j.triplets_count, j.seed, j.files
from runs as r join jobs as j using (job_id) where r.tenant = $1 and r.model = $2 and r.model <> '';

-- name: add_transition
insert into transitions (tenant, run_id, number, state, attempt, token, author, request_id)
select $1, $2, coalesce(max(number), 0) + 1, $3, $4, $5, $6, $7
from transitions where tenant = $1 and run_id = $2;

-- name: read_run
select r.*, j.trigger, j.forced, j.revision, j.triplets_count, j.seed, j.files
from runs as r join jobs as j using (job_id) where r.tenant = $1 and r.run_id = $2;

-- name: read_runs
select r.*, j.trigger, j.forced, j.revision, j.triplets_count, j.seed, j.files
from runs as r join jobs as j using (job_id) where r.tenant = $1 and r.run_id = any($2::text[]);

-- name: lock_run
select r.*, j.trigger, j.forced, j.revision, j.triplets_count, j.seed, j.files
from runs as r join jobs as j using (job_id) where r.tenant = $1 and r.run_id = $2
for update of r;

-- name: lock_queued_run
select r.*, j.trigger, j.forced, j.revision, j.triplets_count, j.seed, j.files
from runs as r join jobs as j using (job_id) where r.state = 'queued'
order by r.create_time limit 1 for update of r skip locked;

-- name: lock_expired_runs
select r.*, j.trigger, j.forced, j.revision, j.triplets_count, j.seed, j.files
from runs as r join jobs as j using (job_id) where r.lease_expire_time < clock_timestamp()
order by r.lease_expire_time limit 100 for update of r skip locked;

-- name: start_lease
update runs set
    state = 'starting',
    attempt = greatest(attempt, 1),
    token = nextval('lease_tokens'),
    trainer = $3,
    incumbent = $4,
    prior = $6,
    lease_expire_time = clock_timestamp() + make_interval(secs => $5),
    start_time = coalesce(start_time, clock_timestamp())
where tenant = $1 and run_id = $2
returning attempt, token, start_time;

-- name: extend_lease
update runs set
    lease_expire_time = clock_timestamp() + make_interval(secs => $3),
    steps_done_count = $4,
    steps_count = $5,
    snapshot_digest = coalesce(nullif($6, ''), snapshot_digest),
    checkpoint_digest = coalesce(nullif($7, ''), checkpoint_digest),
    dataset = coalesce($8::jsonb, dataset),
    dataset_time = coalesce(dataset_time, case when $8::jsonb is not null then clock_timestamp() end)
where tenant = $1 and run_id = $2;

-- name: add_loss_points
insert into loss_points (tenant, run_id, step, loss, validation_ndcg_at_10, stage, validation_loss)
select $1, $2, p.* from unnest(
    $3::integer[], $4::double precision[], $5::double precision[], $6::text[], $7::double precision[]
) as p
on conflict (tenant, run_id, step) do update set
    loss = excluded.loss,
    validation_ndcg_at_10 = excluded.validation_ndcg_at_10,
    stage = excluded.stage,
    validation_loss = excluded.validation_loss;

-- name: move_run
update runs set
    state = $3,
    lease_expire_time = case when $4 then lease_expire_time end,
    failure = $5,
    verdict = $6,
    head = $7,
    end_time = case when $8 then clock_timestamp() end,
    attempt = $9,
    result = $10
where tenant = $1 and run_id = $2 returning end_time;

-- name: request_stop
update runs set stop_requested = true where tenant = $1 and run_id = $2;

-- name: add_head
insert into heads (tenant, domain, head, run_id, parent, tier, manifest_digest, verdict, create_time)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9);

-- name: claim_pointer
insert into pointers (tenant, domain, head) values ($1, $2, '') on conflict do nothing;

-- name: lock_pointer
select head from pointers where tenant = $1 and domain = $2 for update;

-- name: move_pointer
update pointers set head = $3 where tenant = $1 and domain = $2;

-- name: is_pinned
select coalesce((select pinned from pointers where tenant = $1 and domain = $2), false);

-- name: set_pinned
update pointers set pinned = $3 where tenant = $1 and domain = $2;

-- name: ancestors
with recursive line as (
    select tenant, head, run_id, parent, verdict, create_time, tier, 0 as depth from heads where tenant = $1 and head = $2
    union all
    select h.tenant, h.head, h.run_id, h.parent, h.verdict, h.create_time, h.tier, l.depth + 1
    from line as l join heads as h on h.tenant in (l.tenant, $4) and h.head = l.parent where l.depth < $3
)
select
    l.head, l.run_id, l.parent, r.snapshot_digest, j.triplets_count, l.create_time,
    case
        when (l.verdict ->> 'promoted')::boolean then 'promoted'
        when coalesce(l.verdict ->> 'rollout_id', '') <> '' then 'rollout'
        else 'held'
    end as result,
    l.tier
from line as l join runs as r using (tenant, run_id) join jobs as j using (job_id)
where l.depth > 0 order by l.depth;

-- name: head_in_use
select h.*, true as promoted
from pointers as p join heads as h on h.tenant = p.tenant and h.head = p.head
where p.tenant = $1 and p.domain = $2;

-- name: pinned_head
select head from pointers where tenant = $1 and domain = $2 and pinned;

-- name: add_promotion
insert into promotions (tenant, domain, head, previous, reason, author, request_id)
values ($1, $2, $3, $4, $5, $6, $7);

-- name: add_change
insert into changes (tenant, kind, name, value, author, request_id) values ($1, $2, $3, $4, $5, $6);

-- name: was_in_use
select exists (select from promotions where tenant = $1 and domain = $2 and head = $3);

-- name: find_head
select h.*, p.head is not null as promoted
from heads as h left join pointers as p on p.tenant = h.tenant and p.domain = h.domain and p.head = h.head
where h.tenant = $1 and h.domain = $2 and h.head = $3;

-- name: read_head
select h.*, p.head is not null as promoted
from heads as h left join pointers as p on p.tenant = h.tenant and p.domain = h.domain and p.head = h.head
where h.tenant = $1 and h.head = $2;

-- name: list_in_use
select h.*, true as promoted
from pointers as p join heads as h on h.tenant = p.tenant and h.head = p.head
where p.tenant = $1 order by p.domain;

-- name: delete_head
update heads set deleted = true where tenant = $1 and head = $2;

-- name: list_heads
select h.*, p.head is not null as promoted
from heads as h left join pointers as p on p.tenant = h.tenant and p.domain = h.domain and p.head = h.head
where
    h.tenant = $1 and h.domain = $2
    and (
        $3 = ''
        or (h.create_time, h.head) < (
            select b.create_time, b.head from heads as b where b.tenant = $1 and b.head = $3
        )
    )
order by h.create_time desc, h.head desc limit $4;

-- name: list_heads_of
select h.*, p.head is not null as promoted, r.snapshot_digest
from heads as h
join runs as r using (tenant, run_id)
join unnest($2::text[], $3::text[]) as s (domain, digest) on s.domain = h.domain and s.digest = r.snapshot_digest
left join pointers as p on p.tenant = h.tenant and p.domain = h.domain and p.head = h.head
where
    h.tenant in ($1, $6)
    and (
        $4 = ''
        or (h.create_time, h.head) < (
            select b.create_time, b.head from heads as b where b.tenant in ($1, $6) and b.head = $4
        )
    )
order by h.create_time desc, h.head desc limit $5;

-- name: list_promoted
select
    tenant, domain,
    coalesce(h.head, '') as head, coalesce(h.tier, '') as tier, coalesce(h.manifest_digest, '') as manifest_digest,
    coalesce(m.exploration, 0) as exploration,
    r.rollout_id, r.step, r.policy, r.challenger, r.challenger_tier, r.challenger_digest
from pointers as p full join matching_policies as m using (tenant, domain) left join heads as h using (tenant, domain, head)
left join (
    select
        o.tenant, o.domain, o.rollout_id, o.step, o.policy,
        c.head as challenger, c.tier as challenger_tier, c.manifest_digest as challenger_digest
    from rollouts as o join heads as c using (tenant, head) where o.step in ('shadow', 'canary')
) as r using (tenant, domain)
where (tenant, domain) > ($1, $2) and (h.head is not null or r.challenger is not null or m.exploration > 0)
order by tenant, domain limit $3;

-- name: save_rollout_policy
insert into rollout_policies (tenant, domain, policy) values ($1, $2, $3)
on conflict (tenant, domain) do update set policy = excluded.policy;

-- name: read_rollout_policy
select policy from rollout_policies where tenant = $1 and domain = $2;

-- name: save_rollout
insert into rollouts (
    tenant, rollout_id, domain, head, incumbent, policy, step, reason, challenger, incumbent_arm,
    look_time, create_time, step_time, end_time
)
values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
on conflict (tenant, rollout_id) do update set
    step = excluded.step,
    reason = excluded.reason,
    challenger = excluded.challenger,
    incumbent_arm = excluded.incumbent_arm,
    look_time = excluded.look_time,
    step_time = excluded.step_time,
    end_time = excluded.end_time;

-- name: save_figures
insert into rollout_figures (
    tenant, rollout_id, server, matches_count, errors_count, dropped_count, overlap_sum, rank_correlation_sum,
    correlated_count, challenger_seconds_sum, incumbent_seconds_sum, error
)
select tenant, rollout_id, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12
from rollouts where tenant = $1 and rollout_id = $2
on conflict (tenant, rollout_id, server) do update set
    matches_count = excluded.matches_count,
    errors_count = excluded.errors_count,
    dropped_count = excluded.dropped_count,
    overlap_sum = excluded.overlap_sum,
    rank_correlation_sum = excluded.rank_correlation_sum,
    correlated_count = excluded.correlated_count,
    challenger_seconds_sum = excluded.challenger_seconds_sum,
    incumbent_seconds_sum = excluded.incumbent_seconds_sum,
    error = excluded.error;

-- name: read_rollout
select * from rollouts_seen where tenant = $1 and rollout_id = $2;

-- name: open_rollouts
select * from rollouts_seen
where tenant = $1 and domain = $2 and step in ('waiting', 'shadow', 'canary')
order by create_time;

-- name: active_rollouts
select * from rollouts_seen where step in ('shadow', 'canary');

-- name: list_rollouts
select * from rollouts_seen as r
where
    r.tenant = $1 and ($2 = '' or r.domain = $2)
    and (
        $3 = ''
        or (r.create_time, r.rollout_id) < (
            select b.create_time, b.rollout_id from rollouts as b where b.tenant = $1 and b.rollout_id = $3
        )
    )
order by r.create_time desc, r.rollout_id desc limit $4;

-- name: list_runs
select r.*, j.trigger, j.forced, j.revision, j.triplets_count, j.seed, j.files
from runs as r join jobs as j using (job_id)
where
    r.tenant = $1 and ($2 = '' or r.domain = $2) and (not $5 or r.model <> '')
    and (
        $3 = ''
        or (r.create_time, r.run_id) < (
            select b.create_time, b.run_id from runs as b where b.tenant = $1 and b.run_id = $3
        )
    )
order by r.create_time desc, r.run_id desc limit $4;

-- name: loss_curve
select step, loss, validation_ndcg_at_10, stage, validation_loss
from loss_points where tenant = $1 and run_id = $2 order by step;

-- name: moves
select number, state, attempt, move_time from transitions where tenant = $1 and run_id = $2 order by number;

-- name: evaluation_times
select create_time from loss_points where tenant = $1 and run_id = $2 order by step;

-- name: dataset_time
select dataset_time from runs where tenant = $1 and run_id = $2;

-- name: add_checkpoints
insert into checkpoints (
    tenant, run_id, step, training_loss, validation_loss, validation_ndcg_at_10, manifest_digest
)
select $1, $2, c.* from unnest(
    $3::integer[], $4::double precision[], $5::double precision[], $6::double precision[], $7::text[]
) as c
on conflict do nothing;

-- name: list_checkpoints
select step, training_loss, validation_loss, validation_ndcg_at_10, manifest_digest, create_time
from checkpoints where tenant = $1 and run_id = $2 order by step desc;

-- name: last_run_time
select max(create_time) from runs where tenant = $1 and domain = $2;

-- name: save_policy
insert into training_policies (tenant, domain, triplets_budget, cool_down_seconds, interval_seconds)
values ($1, $2, $3, $4, $5)
on conflict (tenant, domain) do update set
    triplets_budget = excluded.triplets_budget,
    cool_down_seconds = excluded.cool_down_seconds,
    interval_seconds = excluded.interval_seconds;

-- name: read_policy
select triplets_budget, cool_down_seconds, interval_seconds from training_policies where tenant = $1 and domain = $2;

-- name: list_policies
select tenant, domain, triplets_budget, cool_down_seconds, interval_seconds from training_policies;

-- name: save_matching_policy
insert into matching_policies (tenant, domain, exploration) values ($1, $2, $3)
on conflict (tenant, domain) do update set exploration = excluded.exploration;

-- name: read_matching_policy
select exploration from matching_policies where tenant = $1 and domain = $2;

-- name: past_runs
select
    j.triplets_count,
    extract(epoch from r.end_time - r.start_time)::double precision as seconds
from runs as r join jobs as j using (job_id)
where
    r.state = 'succeeded' and r.attempt = 1 and r.domain <> ''
    and not exists (
        select from transitions as t where t.tenant = r.tenant and t.run_id = r.run_id and t.state = 'paused'
    )
order by r.end_time desc limit $1;

-- name: snapshots_in_use
-- Who waits for a trainer and has told none takes a new one.
select distinct snapshot_digest from runs
where
    state in ('starting', 'running', 'evaluating', 'exporting', 'pausing', 'stopping')
    or (state in ('queued', 'paused') and snapshot_digest <> '');

-- name: queued_count
select count(*) from runs where state = 'queued';

-- name: run_counts
select state, count(*) as runs, extract(epoch from clock_timestamp() - min(create_time))::double precision as age_seconds
from runs
where state in ('queued', 'starting', 'running', 'evaluating', 'exporting', 'pausing', 'paused', 'stopping')
group by state;

-- name: untold_runs
select r.*, j.trigger, j.forced, j.revision, j.triplets_count, j.seed, j.files
from runs as r join jobs as j using (job_id)
where r.state in ('succeeded', 'stopped') and not r.triplets_told and r.domain <> '' order by r.end_time limit $1;

-- name: mark_told
update runs set triplets_told = true where tenant = $1 and run_id = $2;

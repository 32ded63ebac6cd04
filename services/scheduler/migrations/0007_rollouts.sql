-- How heads of a domain come into use, and those that are on their way.
create table rollout_policies (
    tenant text not null,
    domain text not null,
    policy jsonb not null,
    primary key (tenant, domain)
);

create table rollouts (
    tenant text not null,
    rollout_id text not null,
    domain text not null,
    head text not null,
    incumbent text not null,
    policy jsonb not null,
    step text not null check (step in ('waiting', 'shadow', 'canary', 'promoted', 'returned', 'aborted')),
    reason text not null,
    challenger jsonb not null,
    incumbent_arm jsonb not null,
    look_time timestamptz,
    create_time timestamptz not null,
    step_time timestamptz not null,
    end_time timestamptz,
    primary key (tenant, rollout_id),
    foreign key (tenant, head) references heads
);

-- One under way and one that waits, per tenant and domain.
create unique index rollouts_active on rollouts (tenant, domain) where step in ('shadow', 'canary');
create unique index rollouts_waiting on rollouts (tenant, domain) where step = 'waiting';
create index rollouts_by_domain on rollouts (tenant, domain, create_time desc);

-- What each serving process has last said of a challenger.
create table rollout_figures (
    tenant text not null,
    rollout_id text not null,
    server text not null,
    matches_count bigint not null,
    errors_count bigint not null,
    dropped_count bigint not null,
    overlap_sum double precision not null,
    rank_correlation_sum double precision not null,
    correlated_count bigint not null,
    challenger_seconds_sum double precision not null,
    incumbent_seconds_sum double precision not null,
    error text not null,
    primary key (tenant, rollout_id, server),
    foreign key (tenant, rollout_id) references rollouts
);

create view rollouts_seen as
select r.*, f.*
from rollouts as r cross join lateral (
    select
        coalesce(sum(matches_count), 0)::bigint as matches_count,
        coalesce(sum(errors_count), 0)::bigint as errors_count,
        coalesce(sum(dropped_count), 0)::bigint as dropped_count,
        coalesce(sum(overlap_sum), 0) as overlap_sum,
        coalesce(sum(rank_correlation_sum), 0) as rank_correlation_sum,
        coalesce(sum(correlated_count), 0)::bigint as correlated_count,
        coalesce(sum(challenger_seconds_sum), 0) as challenger_seconds_sum,
        coalesce(sum(incumbent_seconds_sum), 0) as incumbent_seconds_sum,
        coalesce(min(error) filter (where error <> ''), '') as error
    from rollout_figures as s where s.tenant = r.tenant and s.rollout_id = r.rollout_id
) as f;

-- What people choose and decide beside moves and promotions, each with whose change it was; append-only.
create table changes (
    change_id bigint generated always as identity primary key,
    tenant text not null,
    kind text not null,  -- training_policy, matching_policy, rollout_policy, pin, rollout, model
    name text not null,  -- of the domain, the rollout or the model
    value text not null, -- what it is from now on
    author text not null,
    request_id text not null,
    change_time timestamptz not null default clock_timestamp()
);

create index changes_by_name on changes (tenant, kind, name, change_id desc);

alter table changes enable row level security;
create policy tenants on changes using (
    (select '*' = any (string_to_array(current_setting('trine.tenants', true), ',')))
    or tenant = any ((select string_to_array(current_setting('trine.tenants', true), ','))::text [])
);

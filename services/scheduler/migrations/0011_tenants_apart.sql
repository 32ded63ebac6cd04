-- Transactions see and change the rows of those whom they are about (services/chassis/database.py).
do $$
declare
    name text;
begin
    foreach name in array array[
        'jobs', 'run_numbers', 'runs', 'transitions', 'loss_points', 'checkpoints', 'heads', 'pointers', 'promotions',
        'training_policies', 'matching_policies', 'rollout_policies', 'rollouts', 'rollout_figures'
    ] loop
        execute format('alter table %I enable row level security', name);
        execute format($policy$
            create policy tenants on %I using (
                (select '*' = any (string_to_array(current_setting('trine.tenants', true), ',')))
                or tenant = any ((select string_to_array(current_setting('trine.tenants', true), ','))::text [])
            )
        $policy$, name);
    end loop;
end
$$;

-- Else it would be looked through as its owner, who sees everything.
alter view rollouts_seen set (security_invoker = true);

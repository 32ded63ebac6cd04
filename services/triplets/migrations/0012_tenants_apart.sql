-- Transactions see and change the rows of those whom they are about (services/chassis/database.py).
alter table domains enable row level security;
create policy tenants on domains using (
    (select '*' = any (string_to_array(current_setting('trine.tenants', true), ',')))
    or tenant = any ((select string_to_array(current_setting('trine.tenants', true), ','))::text [])
);

-- Rows that name their domain: the tenant's domains are read once a statement and kept in a hash.
do $$
declare
    name text;
begin
    foreach name in array array[
        'users', 'tallies', 'outcomes', 'contexts', 'erased', 'snapshots', 'exposures'
    ] loop
        execute format('alter table %I enable row level security', name);
        execute format($policy$
            create policy tenants on %I using (
                (select '*' = any (string_to_array(current_setting('trine.tenants', true), ',')))
                or domain_id in (
                    select d.domain_id from domains as d
                    where d.tenant = any (
                        (select string_to_array(current_setting('trine.tenants', true), ','))::text []
                    )
                )
            )
        $policy$, name);
    end loop;
end
$$;

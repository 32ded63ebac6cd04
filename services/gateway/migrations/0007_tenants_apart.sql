-- Transactions see and change the rows of those whom they are about (services/chassis/database.py). Erasures name bytes and nobody:
-- equal bytes are kept once, whoever sent them.
do $$
declare
    name text;
begin
    foreach name in array array[
        'tenants', 'api_keys', 'files', 'uploads', 'tuning_jobs', 'checkpoint_permissions', 'webhook_endpoints'
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

-- What is seen of uploads and endpoints is the tenant's own already.
alter table upload_parts enable row level security;
create policy tenants on upload_parts using (
    (select '*' = any (string_to_array(current_setting('trine.tenants', true), ',')))
    or exists (select from uploads as u where u.upload_id = upload_parts.upload_id)
);

alter table webhook_deliveries enable row level security;
create policy tenants on webhook_deliveries using (
    (select '*' = any (string_to_array(current_setting('trine.tenants', true), ',')))
    or exists (select from webhook_endpoints as e where e.endpoint_id = webhook_deliveries.endpoint_id)
);

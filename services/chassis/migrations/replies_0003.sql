-- Whoever was answered is the only one to be answered the same.
alter table replies enable row level security;
create policy tenants on replies using (
    (select '*' = any (string_to_array(current_setting('trine.tenants', true), ',')))
    or tenant = any ((select string_to_array(current_setting('trine.tenants', true), ','))::text [])
);

-- A tenant's transactions add events of their own tenant; the relay publishes everyone's.
alter table outbox add column tenant text not null default '';
-- Of a subject <type>.<tenant>.<domain>, the type being five words.
update outbox set tenant = split_part(subject, '.', 6);
alter table outbox alter column tenant drop default;

alter table outbox enable row level security;
create policy tenants on outbox using (
    (select '*' = any (string_to_array(current_setting('trine.tenants', true), ',')))
    or tenant = any ((select string_to_array(current_setting('trine.tenants', true), ','))::text [])
);

alter table outbox_sequences enable row level security;
create policy tenants on outbox_sequences using (
    (select '*' = any (string_to_array(current_setting('trine.tenants', true), ',')))
    or tenant = any ((select string_to_array(current_setting('trine.tenants', true), ','))::text [])
);

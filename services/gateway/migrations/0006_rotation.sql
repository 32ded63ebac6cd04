-- A key's secret before the last rotation, and when either was last used.
alter table api_keys
    add column last_used_time timestamptz,
    add column old_secret_hash bytea check (octet_length(old_secret_hash) = 32),
    add column old_secret_expire_time timestamptz,
    add column old_secret_last_used_time timestamptz;

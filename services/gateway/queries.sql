-- Everything that the gateway asks of PostgreSQL.

-- name: add_tenant
insert into tenants (tenant) values ($1) on conflict do nothing returning true;

-- name: has_tenant
select exists (select from tenants where tenant = $1);

-- name: add_key
insert into api_keys (key_id, secret_hash, tenant, scopes, expire_time) values ($1, $2, $3, $4, $5);

-- name: find_key
select key_id, secret_hash, tenant, scopes, expire_time, revoke_time is not null as revoked, last_used_time,
    old_secret_hash, old_secret_expire_time, old_secret_last_used_time
from api_keys where key_id = $1;

-- name: replace_secrets
-- Unless another has rotated the key meanwhile.
update api_keys set secret_hash = $3, last_used_time = $4, old_secret_hash = $5, old_secret_expire_time = $6,
    old_secret_last_used_time = $7
where key_id = $1 and secret_hash = $2 and revoke_time is null returning true;

-- name: note_use
update api_keys set
    last_used_time = case when secret_hash = $2 then $3 else last_used_time end,
    old_secret_last_used_time = case when old_secret_hash = $2 then $3 else old_secret_last_used_time end
where key_id = $1;

-- name: revoke_key
update api_keys set revoke_time = coalesce(revoke_time, now()) where key_id = $1 returning true;

-- name: lock_digest
-- Whoever names bytes or erases them takes turns.
select pg_advisory_xact_lock(hashtextextended($1, 0));

-- name: lock_tenant
-- Whoever counts a tenant's files or uploads and adds one takes turns.
select pg_advisory_xact_lock(hashtextextended('tenant ' || $1, 0));

-- name: count_files
select count(*) from files where tenant = $1;

-- name: add_file
insert into files (
    file_id, tenant, filename, purpose, digest, bytes_count, create_time, expire_time, named, media_type
) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10);

-- name: find_file
select tenant, file_id, filename, purpose, digest, bytes_count, create_time, expire_time,
    named, media_type
from files where tenant = $1 and file_id = $2 and (expire_time is null or expire_time > $3);

-- name: find_named_file
select tenant, file_id, filename, purpose, digest, bytes_count, create_time, expire_time,
    named, media_type
from files
where tenant = $1 and filename = $2 and named and (expire_time is null or expire_time > $3);

-- name: list_files_newest_first
select tenant, file_id, filename, purpose, digest, bytes_count, create_time, expire_time,
    named, media_type
from files
where tenant = $1 and ($2 = '' or purpose = $2) and ($3 = '' or file_id < $3)
    and (expire_time is null or expire_time > $4) and (not $6 or named)
order by file_id desc limit $5;

-- name: list_files_oldest_first
select tenant, file_id, filename, purpose, digest, bytes_count, create_time, expire_time,
    named, media_type
from files
where tenant = $1 and ($2 = '' or purpose = $2) and file_id > $3
    and (expire_time is null or expire_time > $4) and (not $6 or named)
order by file_id limit $5;

-- name: delete_file
with gone as (
    delete from files
    where tenant = $1 and file_id = $2 and (expire_time is null or expire_time > $3)
    returning digest
), due as (
    insert into erasures (digest, due_time) select digest, $4 from gone
    on conflict (digest) do update set due_time = excluded.due_time
)
select true from gone;

-- name: count_pending_uploads
select count(*) from uploads where tenant = $1 and state = 'pending' and expire_time > $2;

-- name: add_upload
insert into uploads (
    upload_id, tenant, filename, mime_type, purpose, bytes_count, expires_after_seconds,
    create_time, expire_time, state, named, file_id
) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12);

-- name: find_upload
select tenant, upload_id, filename, mime_type, purpose, bytes_count, expires_after_seconds,
    create_time, expire_time, state, named, file_id
from uploads where tenant = $1 and upload_id = $2;

-- name: find_started_upload
select tenant, upload_id, filename, mime_type, purpose, bytes_count, expires_after_seconds,
    create_time, expire_time, state, named, file_id
from uploads
where tenant = $1 and filename = $2 and named and state = 'pending' and expire_time > $3
order by upload_id desc limit 1;

-- name: lock_upload
select case when state = 'pending' and expire_time <= $2 then 'expired' else state end
from uploads where upload_id = $1 for update;

-- name: count_parts
select count(*) from upload_parts where upload_id = $1;

-- name: add_part
insert into upload_parts (part_id, upload_id, digest, bytes_count, create_time, number)
values ($1, $2, $3, $4, $5, $6);

-- name: list_parts
select upload_id, part_id, digest, bytes_count, create_time, number
from upload_parts where upload_id = $1 order by part_id;

-- name: end_upload
update uploads set state = $2, file_id = $3 where upload_id = $1;

-- name: drop_parts
with gone as (delete from upload_parts where upload_id = $1 returning digest)
insert into erasures (digest, due_time) select distinct digest, $2::timestamptz from gone
on conflict (digest) do update set due_time = excluded.due_time;

-- name: expire_files
with gone as (delete from files where expire_time <= $1 returning digest), due as (
    insert into erasures (digest, due_time) select distinct digest, $2::timestamptz from gone
    on conflict (digest) do update set due_time = excluded.due_time
)
select count(*) from gone;

-- name: expire_uploads
update uploads set state = 'expired' where state = 'pending' and expire_time <= $1
returning upload_id;

-- name: forget_uploads
delete from uploads where state <> 'pending' and expire_time < $1;

-- name: release
insert into erasures (digest, due_time) values ($1, $2)
on conflict (digest) do update set due_time = excluded.due_time;

-- name: list_due
select digest from erasures where due_time <= $1 order by due_time limit $2;

-- name: is_named
select exists (select from files where digest = $1)
    or exists (select from upload_parts where digest = $1);

-- name: settle
delete from erasures where digest = $1;

-- name: find_job_by_key
select tenant, job_id, wish, training_file_id, validation_file_id, given, metadata, create_time,
    fingerprint, request_key, name, run_id, result_file_id
from tuning_jobs where tenant = $1 and request_key = $2 and create_time > $3;

-- name: find_job_by_fingerprint
select tenant, job_id, wish, training_file_id, validation_file_id, given, metadata, create_time,
    fingerprint, request_key, name, run_id, result_file_id
from tuning_jobs
where tenant = $1 and fingerprint = $2 and create_time > $3 and not released
order by job_id desc limit 1;

-- name: add_job
insert into tuning_jobs (
    tenant, job_id, wish, training_file_id, validation_file_id, given, metadata, create_time,
    fingerprint, request_key, name, run_id, result_file_id
) values (
    $1, $2, $3::text::jsonb, $4, $5, $6::text::jsonb, $7::text::jsonb, $8, $9, $10, $11, $12, $13
);

-- name: drop_job
delete from tuning_jobs where job_id = $1 and run_id = '';

-- name: find_job
select tenant, job_id, wish, training_file_id, validation_file_id, given, metadata, create_time,
    fingerprint, request_key, name, run_id, result_file_id
from tuning_jobs where tenant = $1 and job_id = $2;

-- name: find_named_job
select tenant, job_id, wish, training_file_id, validation_file_id, given, metadata, create_time,
    fingerprint, request_key, name, run_id, result_file_id
from tuning_jobs where tenant = $1 and name = $2 and name <> '';

-- name: list_jobs
select tenant, job_id, wish, training_file_id, validation_file_id, given, metadata, create_time,
    fingerprint, request_key, name, run_id, result_file_id
from tuning_jobs
where tenant = $1 and ($2 = '' or job_id < $2) and ($3::text is null or metadata @> $3::text::jsonb)
    and (not $4 or metadata is null or metadata = '{}') and (name <> '') = $6
order by job_id desc limit $5;

-- name: list_without_run
select tenant, job_id, wish, training_file_id, validation_file_id, given, metadata, create_time,
    fingerprint, request_key, name, run_id, result_file_id
from tuning_jobs where run_id = '' order by job_id limit $1;

-- name: list_unannounced
select tenant, job_id, wish, training_file_id, validation_file_id, given, metadata, create_time,
    fingerprint, request_key, name, run_id, result_file_id
from tuning_jobs where not announced and run_id <> '' and job_id > $1 order by job_id limit $2;

-- name: set_announced
update tuning_jobs set announced = true where job_id = $1;

-- name: list_untracked
select tenant, job_id, wish, training_file_id, validation_file_id, given, metadata, create_time,
    fingerprint, request_key, name, run_id, result_file_id
from tuning_jobs
where announced and not tracked and jsonb_typeof(given -> 'integrations') = 'array' and job_id > $1
order by job_id limit $2;

-- name: set_tracked
update tuning_jobs set tracked = true where job_id = $1;

-- name: set_run
update tuning_jobs set run_id = $2 where job_id = $1;

-- name: lock_result
select result_file_id from tuning_jobs where job_id = $1 for update;

-- name: set_result
update tuning_jobs set result_file_id = $2 where job_id = $1;

-- name: release_wish
update tuning_jobs set released = true where job_id = $1;

-- name: count_permissions
select count(*) from checkpoint_permissions where tenant = $1 and checkpoint = $2;

-- name: add_permission
-- The update that changes nothing makes one that is there already answer too.
insert into checkpoint_permissions (permission_id, tenant, checkpoint, project, create_time)
values ($1, $2, $3, $4, $5)
on conflict (tenant, checkpoint, project) do update set project = excluded.project
returning tenant, permission_id, checkpoint, project, create_time;

-- name: list_permissions_newest_first
select tenant, permission_id, checkpoint, project, create_time from checkpoint_permissions
where tenant = $1 and checkpoint = $2 and ($3 = '' or permission_id < $3) and ($4 = '' or project = $4)
order by permission_id desc limit $5;

-- name: list_permissions_oldest_first
select tenant, permission_id, checkpoint, project, create_time from checkpoint_permissions
where tenant = $1 and checkpoint = $2 and permission_id > $3 and ($4 = '' or project = $4)
order by permission_id limit $5;

-- name: delete_permission
delete from checkpoint_permissions
where tenant = $1 and checkpoint = $2 and permission_id = $3 returning true;
-- name: count_endpoints
select count(*) from webhook_endpoints where tenant = $1;

-- name: add_endpoint
insert into webhook_endpoints (
    endpoint_id, tenant, name, url, event_types, secret, old_secret, old_secret_expire_time,
    create_time, update_time, disabled
) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);

-- name: find_endpoint
select endpoint_id, tenant, name, url, event_types, secret, old_secret, old_secret_expire_time,
    create_time, update_time, disabled
from webhook_endpoints where tenant = $1 and endpoint_id = $2;

-- name: list_endpoints
select endpoint_id, tenant, name, url, event_types, secret, old_secret, old_secret_expire_time,
    create_time, update_time, disabled
from webhook_endpoints where tenant = $1 and ($2 = '' or endpoint_id < $2)
order by endpoint_id desc limit $3;

-- name: update_endpoint
update webhook_endpoints set name = $3, url = $4, event_types = $5, secret = $6, old_secret = $7,
    old_secret_expire_time = $8, update_time = $9, disabled = $10
where tenant = $1 and endpoint_id = $2 returning true;

-- name: delete_endpoint
delete from webhook_endpoints where tenant = $1 and endpoint_id = $2 returning true;

-- name: add_deliveries
insert into webhook_deliveries (
    event_id, endpoint_id, event_type, body, state, attempts_count, failure, create_time, next_time
)
select $2, endpoint_id, $3, $4, 'pending', 0, '', $5, $5
from webhook_endpoints where tenant = $1 and $3 = any (event_types) and not disabled
on conflict do nothing;

-- name: hold_due
-- By turns: each tenant's first, then each one's second.
with waiting as (
    select endpoint_id, event_id, row_number() over (partition by tenant order by next_time) as turn
    from webhook_deliveries join webhook_endpoints using (endpoint_id)
    where next_time <= $1 and not disabled
), due as (
    select delivery.endpoint_id, delivery.event_id
    from webhook_deliveries delivery join waiting using (endpoint_id, event_id)
    where next_time <= $1
    order by turn, next_time limit $2 for update of delivery skip locked
)
update webhook_deliveries delivery set next_time = $3 from due
where (delivery.endpoint_id, delivery.event_id) = (due.endpoint_id, due.event_id)
returning delivery.event_id, delivery.endpoint_id, event_type, body, state, attempts_count,
    status_code, failure, create_time, next_time;

-- name: endpoints_of
select endpoint_id, tenant, name, url, event_types, secret, old_secret, old_secret_expire_time,
    create_time, update_time, disabled
from webhook_endpoints where endpoint_id = any ($1);

-- name: settle_delivery
-- Not what was replayed meanwhile: that is held by somebody else.
update webhook_deliveries set state = $3, attempts_count = $4, status_code = $5, failure = $6, next_time = $7
where endpoint_id = $1 and event_id = $2 and next_time is not distinct from $8;

-- name: disable_endpoint
update webhook_endpoints set disabled = true where endpoint_id = $1;

-- name: list_deliveries
select event_id, endpoint_id, event_type, body, state, attempts_count, status_code, failure,
    create_time, next_time
from webhook_deliveries
where endpoint_id = $1 and ($2 = '' or state = $2) and ($4 = '' or (create_time, event_id) < ($5::timestamptz, $4))
order by create_time desc, event_id desc limit $3;

-- name: find_delivery_time
select create_time from webhook_deliveries where endpoint_id = $1 and event_id = $2;

-- name: replay_delivery
update webhook_deliveries set state = 'pending', attempts_count = 0, next_time = $3
where endpoint_id = $1 and event_id = $2
returning event_id, endpoint_id, event_type, body, state, attempts_count, status_code, failure,
    create_time, next_time;

-- name: forget_deliveries
delete from webhook_deliveries where next_time is null and create_time < $1;

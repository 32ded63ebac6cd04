-- What must always hold of keys, files, jobs and webhooks: each query names what breaks its rule.

-- name: I12_jobs
-- A fine-tuning job names files of its own tenant alone.
select j.job_id as offender
from tuning_jobs as j join files as f on f.file_id in (j.training_file_id, j.validation_file_id, j.result_file_id)
where f.tenant <> j.tenant

-- name: I12_uploads
-- What an upload became is a file of its own tenant.
select u.upload_id as offender from uploads as u join files as f using (file_id) where f.tenant <> u.tenant

-- name: I16_overdue
-- No delivery waits for more than five minutes beyond its time, and every one that is pending has a time.
select d.event_id as offender
from webhook_deliveries as d join webhook_endpoints as e using (endpoint_id)
where
    not e.disabled
    and (d.next_time < clock_timestamp() - interval '5 minutes' or (d.state = 'pending' and d.next_time is null))

-- name: I16_attempts
-- A delivery is given up after its last attempt and not before, unless the endpoint said that it is gone.
select event_id as offender from webhook_deliveries
where attempts_count > $1::integer or (state = 'failed' and attempts_count < $1::integer and status_code is distinct from $2::integer)

-- name: I17_keys
-- Keys are kept as hashes of 32 bytes, and none outlives its tenant.
select k.key_id as offender from api_keys as k
where octet_length(k.secret_hash) <> 32 or not exists (select from tenants as t where t.tenant = k.tenant)

-- name: I20_erasures
-- Bytes that nothing names any more are erased within an hour of being due.
select e.digest as offender from erasures as e
where
    e.due_time < clock_timestamp() - interval '1 hour'
    and not exists (select from files as f where f.digest = e.digest)
    and not exists (select from upload_parts as p where p.digest = e.digest)

-- name: I20_expired
-- No file is listed for more than an hour after it has expired.
select file_id as offender from files where expire_time < clock_timestamp() - interval '1 hour'

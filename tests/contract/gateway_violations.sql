-- Violations of the gateway's rules: what each breaks, and a part of what its rule must name.

-- breaks: A fine-tuning job
-- named: ftjob-1
update tuning_jobs set validation_file_id = 'file-2';

-- breaks: A fine-tuning job
-- named: ftjob-1
update tuning_jobs set result_file_id = 'file-2';

-- breaks: What an upload became
-- named: upload_1
update uploads set file_id = 'file-2';

-- breaks: No delivery waits
-- named: evt_1
update webhook_deliveries set next_time = now() - interval '6 minutes' where state = 'pending';

-- breaks: No delivery waits
-- named: evt_1
update webhook_deliveries set next_time = null where state = 'pending';

-- breaks: A delivery is given up
-- named: evt_2
update webhook_deliveries set attempts_count = 11 where event_id = 'evt_2';

-- breaks: A delivery is given up
-- named: evt_1
update webhook_deliveries set state = 'failed', next_time = null where event_id = 'evt_1';

-- breaks: Keys are kept
-- named: k1
alter table api_keys drop constraint api_keys_secret_hash_check;
update api_keys set secret_hash = 'plain';

-- breaks: Keys are kept
-- named: k1
alter table api_keys drop constraint api_keys_tenant_fkey;
delete from tenants;

-- breaks: Bytes that nothing names
-- named: cccc
update erasures set due_time = now() - interval '61 minutes';

-- breaks: No file is listed
-- named: file-1
update files set expire_time = now() - interval '2 hours';

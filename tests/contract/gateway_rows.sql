-- A row of every kind, as use cases leave them.

insert into tenants (tenant) values ('acme'), ('other');
insert into api_keys (key_id, secret_hash, tenant, scopes)
values ('k1', decode(repeat('ab', 32), 'hex'), 'acme', '{}');
insert into files (file_id, tenant, filename, purpose, digest, bytes_count, create_time, expire_time)
values
('file-1', 'acme', 'a', 'fine-tune', repeat('a', 64), 1, now(), now() + interval '1 day'),
('file-2', 'other', 'b', 'fine-tune', repeat('b', 64), 1, now(), null);
insert into uploads
(upload_id, tenant, filename, mime_type, purpose, bytes_count, create_time, expire_time, state, file_id)
values ('upload_1', 'acme', 'a', '', 'fine-tune', 1, now(), now(), 'completed', 'file-1');
insert into tuning_jobs
(job_id, tenant, wish, training_file_id, given, create_time, fingerprint, request_key, run_id, result_file_id)
values ('ftjob-1', 'acme', '{}', 'file-1', '{}', now(), '', '', '', '');
insert into webhook_endpoints
(endpoint_id, tenant, name, url, event_types, secret, create_time, update_time, disabled)
values
('we_1', 'acme', '', 'https://example.com', '{}', 's', now(), now(), false),
('we_2', 'acme', '', 'https://example.com', '{}', 's', now(), now(), true);
insert into webhook_deliveries
(event_id, endpoint_id, event_type, body, state, attempts_count, status_code, failure, create_time, next_time)
values
('evt_1', 'we_1', 't', '', 'pending', 3, 500, '', now(), now() + interval '1 hour'),
('evt_2', 'we_1', 't', '', 'failed', 10, 500, '', now(), null),
('evt_3', 'we_2', 't', '', 'pending', 1, 500, '', now(), now() - interval '1 day'),
('evt_4', 'we_2', 't', '', 'failed', 1, 410, '', now(), null);
insert into erasures (digest, due_time)
values (repeat('a', 64), now() - interval '1 day'), (repeat('c', 64), now() - interval '1 minute');

-- Violations of the scheduler's rules: what each breaks, and a part of what its rule must name.

-- breaks: A tenant's domain has one active run
-- named: acme/leased
drop index runs_active;
insert into runs (tenant, run_id, job_id, domain, state)
select tenant, 'tr_2026_01_01_999', job_id, domain, 'queued' from runs
where domain = 'leased';
insert into transitions (tenant, run_id, number, state, attempt, token)
values ('acme', 'tr_2026_01_01_999', 1, 'queued', 0, 0);

-- breaks: The index that settles races
-- named: runs_active
drop index runs_active;

-- breaks: The index that settles races
-- named: runs_active
drop index runs_active;
create unique index runs_active on runs (tenant, domain)
where domain <> ''
and state in ('queued', 'starting', 'running');

-- breaks: No lease is over
-- named: acme/tr_
update runs set lease_expire_time = clock_timestamp() - interval '2 minutes'
where lease_expire_time is not null;

-- breaks: No run is in a state
-- named: running
update transitions set move_time = now() - interval '25 hours' where state = 'queued';
update transitions set move_time = now() - interval '8 days' where state = 'running';

-- breaks: Each lease has a token
-- named: token
update transitions set token = (select max(token) from transitions) where state = 'starting';

-- breaks: Each lease has a token
-- named: acme/tr_
update transitions set token = 1000 where number = 2;
update transitions set token = 1 where number = 3;

-- breaks: The head in use passed
-- named: acme/dating u_acme
update heads set verdict = verdict || '{"promoted": false, "rules": []}';

-- breaks: The head in use passed
-- named: 2020-01-01
update pointers set head = 'u_acme.dating.2020-01-01.001' where head <> '';
insert into promotions (tenant, domain, head, previous, reason)
select tenant, domain, head, '', 'planted' from pointers
where head <> '';

-- breaks: No event waits
-- named: -
update outbox set publish_time = null, create_time = now() - interval '2 minutes';

-- breaks: The events of a resource
-- named: acme/dating/tr_
update outbox set sequence = sequence + 1 where id = (select max(id) from outbox where about like 'acme/dating/tr_%');

-- breaks: The events of a resource
-- named: acme/dating/tr_
update outbox set sequence = sequence + 1 where sequence > 1;
update outbox_sequences set last = last + 1 where last > 1;

-- breaks: The events of a resource
-- named: acme/dating/tr_
update outbox set publish_time = null where sequence = 1;

-- breaks: A run's history
-- named: acme/tr_
update runs set state = 'evaluating' where run_id = (select max(run_id) from runs where domain = 'leased');

-- breaks: A run's history
-- named: acme/tr_
update transitions set state = 'succeeded'
where number = 1
and run_id = (select max(run_id) from runs
where domain = 'leased');

-- breaks: A run's history
-- named: acme/tr_
delete from transitions where number = 1 and run_id = (select max(run_id) from runs where domain = 'leased');

-- breaks: The head in use is the one
-- named: acme/dating
update pointers set head = '' where domain = 'dating';

-- breaks: The head in use is the one
-- named: acme/dating
insert into promotions (tenant, domain, head, previous, reason)
select tenant, domain, head, 'nobody', 'planted' from pointers
where head <> '';

-- breaks: No lease ends further
-- named: acme/tr_
update runs set lease_expire_time = clock_timestamp() + interval '1 hour' where lease_expire_time is not null;

-- breaks: The checkpoint that
-- named: acme/tr_
update runs set checkpoint_digest = repeat('0', 64) where domain = 'leased';

-- breaks: The manifest of a head
-- named: acme/dating u_acme
update heads set manifest_digest = repeat('0', 64) from pointers as p where p.head = heads.head;

-- breaks: The manifest of a head
-- named: acme/dating u_acme
update heads set manifest_digest = (select max(b.manifest_digest) from heads as b where b.head = heads.parent)
where parent <> '';

-- breaks: The head before
-- named: acme/dating u_acme
update heads set manifest_digest = repeat('0', 64)
where head in (select h.parent from pointers as p join heads as h using (tenant, domain, head));

-- breaks: Every move of a run
-- named: acme/tr_
update migrations set apply_time = now() - interval '2 hours';
update transitions set author = 'unknown' where number = 1;

-- breaks: Every move of a run
-- named: acme/dating u_acme
update migrations set apply_time = now() - interval '2 hours';
update promotions set author = '';

-- breaks: Every move of a run
-- named: acme/rolled rollout_policy
update changes set author = '' where kind = 'rollout_policy';

-- breaks: Every move of a run
-- named: acme/ro_
update migrations set apply_time = now() - interval '2 hours';
delete from changes where kind = 'rollout';

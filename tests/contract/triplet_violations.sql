-- Violations of the triplet store's rules: what each breaks, and a part of what its rule must name.

-- breaks: An outcome counts once
-- named: acme/dating
update tallies set received[1] = received[1] + 1
where number = (select number from tallies
where given <> '{0,0,0,0}' order by number limit 1);

-- breaks: What a person gave
-- named: person
delete from outcomes
where seeker = (select number from tallies
where given <> '{0,0,0,0}' order by number limit 1)
and candidate = (select min(candidate) from outcomes
where seeker = (select number from tallies
where given <> '{0,0,0,0}' order by number limit 1)
and level < 4);

-- breaks: What a person gave
-- named: person
update outcomes set level = (level + 1) % 4, occurred_at = now()
where seeker = (select number from tallies
where given <> '{0,0,0,0}' order by number limit 1);

-- breaks: The triplet count
-- named: acme/dating
update domains set triplets_count = triplets_count + 1;

-- breaks: The triplet count
-- named: acme/hiring
update domains set positives_count = positives_count + 1;

-- breaks: Nothing of a domain is newer
-- named: acme/dating
update users set revision = 1000000 where domain_id = (select min(domain_id) from users);

-- breaks: Nothing of a domain is newer
-- named: acme/dating
update tallies set revision = 1000000 where domain_id = (select min(domain_id) from tallies);

-- breaks: Nothing of a domain is newer
-- named: acme/dating
update outcomes set revision = 1000000 where domain_id = (select min(domain_id) from outcomes);

-- breaks: Nothing of a domain is newer
-- named: acme/dating
update erased set revision = 1000000 where domain_id = (select min(domain_id) from erased);

-- breaks: Nothing is left
-- named: acme/dating person 3
insert into outcomes (domain_id, revision, seeker, candidate, label, level, weight, occurred_at)
select domain_id, 1, number, number, 'retracted', 4, 1, now() from (select domain_id, number from erased limit 1) as gone;

-- breaks: Nothing is left
-- named: acme/dating person 3
alter table contexts drop constraint contexts_domain_id_number_fkey;
update users set number = 3 where user_id = 'd0';

-- breaks: Every number
-- named: acme/dating
update domains set users_count = users_count + 1;

-- breaks: Every number
-- named: acme/dating
delete from erased;

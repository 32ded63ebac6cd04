-- Rows name their domain by one number instead of by tenant and domain. The planner cannot know that those two go together:
-- it took the people of a domain for one or two, and scanned all of them where it should have asked the index for each.

alter table domains add column domain_id integer generated always as identity unique;

alter table users add column domain_id integer;
alter table tallies add column domain_id integer;
alter table outcomes add column domain_id integer;

update users as u set domain_id = d.domain_id from domains as d where d.tenant = u.tenant and d.domain = u.domain;
update tallies as t set domain_id = d.domain_id from domains as d where d.tenant = t.tenant and d.domain = t.domain;
update outcomes as o set domain_id = d.domain_id from domains as d where d.tenant = o.tenant and d.domain = o.domain;

-- Keys and indexes over these columns go with them.
alter table users drop column tenant cascade, drop column domain cascade;
alter table tallies drop column tenant cascade, drop column domain cascade;
alter table outcomes drop column tenant cascade, drop column domain cascade;

alter table users
    add primary key (domain_id, number),
    add unique (domain_id, user_id),
    add foreign key (domain_id) references domains (domain_id);
create index users_by_revision on users (domain_id, revision);

alter table tallies
    add primary key (domain_id, number),
    add foreign key (domain_id, number) references users;
create index tallies_by_revision on tallies (domain_id, revision);

-- Not bound to domains by a foreign key: outcomes are written by who holds the domain's row locked, and asking for that
-- row again for each of them took a third of the insert.
alter table outcomes alter column domain_id set not null;
create index outcomes_by_pair on outcomes
    (domain_id, seeker, candidate, occurred_at desc, level desc, weight desc);

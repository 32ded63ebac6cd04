-- Which snapshots held whoever has been erased stays known, by a hash of their id: it is asked which heads learned from them.
alter table erased
    add column id_hash bytea,
    add column last_snapshot_id bigint not null default 0; -- when they were erased
create index erased_by_id on erased (domain_id, id_hash);

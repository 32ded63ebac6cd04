-- Snapshots that hold whoever has been erased since: their files go once no run needs them.
alter table snapshots
    add column outdated boolean not null default false,
    add column kept boolean not null default true;
create index snapshots_outdated on snapshots (snapshot_id) where outdated and kept;
create index snapshots_by_digest on snapshots (digest);

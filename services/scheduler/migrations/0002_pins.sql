-- A pinned pointer is moved by people alone.
alter table pointers add column pinned boolean not null default false;

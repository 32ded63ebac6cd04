-- Dialects in which callers find files and jobs by names of their own, and number the parts of an upload.
alter table files add column named boolean not null default false, add column media_type text not null default '';
create unique index files_by_name on files (tenant, filename) where named;

alter table uploads add column named boolean not null default false;
create index uploads_by_name on uploads (tenant, filename) where named and state = 'pending';
alter table upload_parts add column number integer;

alter table tuning_jobs add column name text not null default '';
create unique index tuning_jobs_by_name on tuning_jobs (tenant, name) where name <> '';

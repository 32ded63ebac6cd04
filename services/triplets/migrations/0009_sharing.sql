-- Domains that tenants share, and what the last successful run of each saw.
alter table domains add column shared boolean not null default false;

create index domains_shared on domains (domain) where shared;

create table shared_domains (
    domain text primary key,
    trained_triplets_count bigint not null
);

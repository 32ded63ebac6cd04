-- When a domain's runs start by themselves; null leaves it to the mesh.
create table training_policies (
    tenant text not null,
    domain text not null,
    triplets_budget integer,
    cool_down_seconds integer,
    interval_seconds integer,
    primary key (tenant, domain)
);

-- How a domain's matches are made beside the head that ranks them.
create table matching_policies (
    tenant text not null,
    domain text not null,
    exploration double precision not null, -- share of the matches, 0 to 1
    primary key (tenant, domain)
);

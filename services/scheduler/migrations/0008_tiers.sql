-- The domain head that a tenant's run starts from, the same in each of its leases.
alter table runs add column prior text not null default '';

-- Whom an answer tells of: with them it goes.
alter table replies add column about text not null default '';
create index replies_by_whom on replies (tenant, about) where about <> '';

-- Labels that a tenant registers for its outcomes, and the match that an outcome came of.

alter table domains add column labels jsonb not null default '[]';
alter table outcomes add column match_id text not null default '';

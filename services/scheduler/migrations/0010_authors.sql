-- Whose change it was, and by which call; a release that does not say is not known.
alter table transitions
    add column author text not null default 'unknown',
    add column request_id text not null default '';
alter table promotions
    add column author text not null default 'unknown',
    add column request_id text not null default '';

-- Streams of changes ask for the outcomes after a revision.
create index outcomes_by_revision on outcomes (domain_id, revision);

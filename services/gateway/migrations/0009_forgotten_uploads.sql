-- Uploads that ended long ago are forgotten.
create index uploads_that_ended on uploads (expire_time) where state <> 'pending';

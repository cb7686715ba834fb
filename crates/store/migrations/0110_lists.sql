-- Lists read the builds of a page of images, and the releases of all sources, without a scan of the table.
CREATE INDEX builds_by_digest ON builds (digest, created_at, image_size);
CREATE INDEX releases_by_run ON releases (run);

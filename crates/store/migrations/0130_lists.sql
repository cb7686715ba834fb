-- Lists read the releases of all sources without a scan of the table.
CREATE INDEX releases_by_run ON releases (run);

-- Who began an upload: each identity has a share of the open uploads. Empty for those from before this migration.
ALTER TABLE uploads ADD COLUMN owner TEXT NOT NULL DEFAULT '';

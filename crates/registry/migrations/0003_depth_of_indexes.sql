-- How deep indexes are nested below a manifest: 0 for images, and for what was stored before this migration.
ALTER TABLE manifests ADD COLUMN depth INTEGER NOT NULL DEFAULT 0;

-- Trust domains: results of untrusted refs are never used by trusted ones.

-- Whether the run's ref was trusted when it was queued: the default branch, or one that a channel follows.
ALTER TABLE runs ADD COLUMN trusted INTEGER NOT NULL DEFAULT 1;
UPDATE runs SET trusted = 0 WHERE branch LIKE 'refs/%';

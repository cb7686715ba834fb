-- Builds that are made again on request, and what is not kept any longer.

-- A digest that somebody asked to build again. An interrupted one is done again: nothing is lost but time.
CREATE TABLE rebuilds (
    number      INTEGER PRIMARY KEY,
    digest      TEXT NOT NULL,                -- an index or a platform manifest
    state       TEXT NOT NULL,                -- queued, running, done, failed
    doing       TEXT,                         -- what its job does now, in words
    builds      TEXT NOT NULL DEFAULT '[]',   -- JSON: list of rebuilds::Rebuilt
    failure     TEXT,                         -- why it failed as a whole
    created_at  TEXT NOT NULL,
    finished_at TEXT
) STRICT;
CREATE INDEX rebuilds_open ON rebuilds (state) WHERE state IN ('queued', 'running');

-- Indexes that are not held any longer, though a release names them: what the registry had of them may be gone.
CREATE TABLE collected (
    digest TEXT NOT NULL PRIMARY KEY,
    at     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Where each variant of a branch stands, and what runs found standing.

-- The newest good build of a variant, per branch and platform.
CREATE TABLE heads (
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    branch     TEXT NOT NULL,
    variant    TEXT NOT NULL,
    platform   TEXT NOT NULL,
    key        TEXT NOT NULL,
    digest     TEXT NOT NULL,                 -- the platform manifest
    retired_at TEXT,                          -- since when no commit names it
    PRIMARY KEY (source_id, branch, variant, platform)
) STRICT, WITHOUT ROWID;
INSERT INTO heads (source_id, branch, variant, platform, key, digest, retired_at)
SELECT source_id, branch, variant, platform, key, digest,
       (SELECT min(r.created_at) FROM run_nodes n JOIN runs r ON r.number = n.run
        WHERE r.source_id = good.source_id AND r.branch = good.branch AND n.variant = good.variant
          AND n.platform = good.platform AND n.state = 'retired' AND n.run > good.newest)
FROM (SELECT r.source_id, r.branch, n.variant, n.platform, n.key, n.digest, max(n.run) AS newest
      FROM run_nodes n JOIN runs r ON r.number = n.run
      WHERE n.variant IS NOT NULL AND n.key IS NOT NULL AND n.digest IS NOT NULL AND n.state IN ('passed', 'reused')
      GROUP BY r.source_id, r.branch, n.variant, n.platform) good;

-- The nodes of runs that stand as they stood before. `run_nodes` has those that a run works on or finds elsewhere; the others
-- are one document, written once for all runs that found the same: what a commit costs follows from what it changes.
CREATE TABLE standing (
    digest   TEXT NOT NULL PRIMARY KEY,
    document BLOB NOT NULL,                   -- zstd of JSON: list of standing::Settled
    reused   INTEGER NOT NULL,
    retired  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
ALTER TABLE runs ADD COLUMN standing TEXT REFERENCES standing (digest);

CREATE INDEX run_nodes_by_digest ON run_nodes (digest) WHERE digest IS NOT NULL;

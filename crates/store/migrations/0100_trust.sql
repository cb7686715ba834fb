-- Trust domains: what an untrusted run found is never used by a trusted one, and no source uses what another one found. An
-- untrusted run may use what trusted runs of its source found.

-- Whether the run's ref was trusted when it was queued: the default branch, or one that a channel follows.
ALTER TABLE runs ADD COLUMN trusted INTEGER NOT NULL DEFAULT 1;
UPDATE runs SET trusted = 0 WHERE branch LIKE 'refs/%';

-- The first manifest recorded for a key is the manifest of that key in its domain, for good.
CREATE TABLE domain_builds (
    key           TEXT NOT NULL,
    source_id     INTEGER NOT NULL REFERENCES sources (id),
    trusted       INTEGER NOT NULL,
    repository    TEXT NOT NULL,
    digest        TEXT NOT NULL,
    manifest_size INTEGER NOT NULL,
    image_size    INTEGER NOT NULL,
    duration_ms   INTEGER NOT NULL,
    run           INTEGER NOT NULL REFERENCES runs (number),
    job           TEXT NOT NULL,
    created_at    TEXT NOT NULL,
    PRIMARY KEY (key, source_id, trusted)
) STRICT, WITHOUT ROWID;
INSERT INTO domain_builds SELECT b.key, r.source_id, r.trusted, b.repository, b.digest, b.manifest_size, b.image_size,
       b.duration_ms, b.run, b.job, b.created_at FROM builds b JOIN runs r ON r.number = b.run;

-- Whether building a key again gave the same digest. No row: unproved.
CREATE TABLE domain_proofs (
    key       TEXT NOT NULL,
    source_id INTEGER NOT NULL,
    trusted   INTEGER NOT NULL,
    result    TEXT NOT NULL,                  -- proved, refuted
    digest    TEXT NOT NULL,                  -- the digest of the last rebuild
    at        TEXT NOT NULL,
    PRIMARY KEY (key, source_id, trusted)
) STRICT, WITHOUT ROWID;
INSERT INTO domain_proofs SELECT p.key, b.source_id, b.trusted, p.result, p.digest, p.at
FROM proofs p JOIN domain_builds b ON b.key = p.key;

-- The packages that a `bootstrap` step's key was built from; the registry has them as blobs, pinned as `packages/KEY`.
CREATE TABLE domain_packages (
    key        TEXT NOT NULL,
    source_id  INTEGER NOT NULL,              -- 0: unknown, from before domains
    trusted    INTEGER NOT NULL,
    document   TEXT NOT NULL,                 -- JSON: outcome::KeptPackages
    created_at TEXT NOT NULL,
    PRIMARY KEY (key, source_id, trusted)
) STRICT, WITHOUT ROWID;
INSERT INTO domain_packages SELECT k.key, coalesce(b.source_id, 0), coalesce(b.trusted, 0), k.document, k.created_at
FROM kept_packages k LEFT JOIN domain_builds b ON b.key = k.key;

-- The newest good build of a variant, per branch and platform.
CREATE TABLE domain_heads (
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    branch     TEXT NOT NULL,
    trusted    INTEGER NOT NULL,              -- of the run that built it
    variant    TEXT NOT NULL,
    platform   TEXT NOT NULL,
    key        TEXT NOT NULL,
    digest     TEXT NOT NULL,                 -- the platform manifest
    retired_at TEXT,                          -- since when no commit names it
    PRIMARY KEY (source_id, branch, trusted, variant, platform)
) STRICT, WITHOUT ROWID;
INSERT INTO domain_heads SELECT source_id, branch, branch NOT LIKE 'refs/%', variant, platform, key, digest, retired_at FROM heads;

DROP TABLE proofs;
DROP TABLE builds;
DROP TABLE kept_packages;
DROP TABLE heads;
ALTER TABLE domain_builds RENAME TO builds;
ALTER TABLE domain_proofs RENAME TO proofs;
ALTER TABLE domain_packages RENAME TO kept_packages;
ALTER TABLE domain_heads RENAME TO heads;
CREATE INDEX builds_by_digest ON builds (digest);

-- Overlays: numbers are counted over both kinds.
ALTER TABLE locks ADD COLUMN trusted INTEGER NOT NULL DEFAULT 1;
UPDATE locks SET trusted = 0 WHERE EXISTS
    (SELECT 1 FROM runs r WHERE r.source_id = locks.source_id AND NOT r.trusted AND locks.reason LIKE 'run ' || r.number || ':%');

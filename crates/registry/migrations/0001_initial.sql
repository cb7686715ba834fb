-- The registry's own metadata. An object is visible if and only if its row is here.
-- Times are Unix milliseconds. Digests are `sha256:…` or `sha512:…` as text.

CREATE TABLE repositories (
    id          INTEGER PRIMARY KEY,
    name        TEXT    NOT NULL UNIQUE,
    created_at  INTEGER NOT NULL
) STRICT;

CREATE TABLE blobs (
    id                  INTEGER PRIMARY KEY,
    digest              TEXT    NOT NULL UNIQUE,
    size                INTEGER NOT NULL CHECK (size >= 0),
    -- damaged: found torn, rotten or missing; a re-push repairs. condemned: collection is about to unlink it.
    state               TEXT    NOT NULL CHECK (state IN ('present', 'damaged', 'condemned')),
    -- One 64-bit XXH3 per 256 KiB, little-endian.
    checksums           BLOB    NOT NULL,
    -- The collection cycle since which nothing refers to it.
    unreferenced_since  INTEGER,
    created_at          INTEGER NOT NULL
) STRICT;

CREATE TABLE repository_blobs (
    repository_id  INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    blob_id        INTEGER NOT NULL REFERENCES blobs (id),
    created_at     INTEGER NOT NULL,
    PRIMARY KEY (repository_id, blob_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX repository_blobs_by_blob ON repository_blobs (blob_id);

-- Manifests are small (4 MiB at most) and live here with their bytes: one transaction stores a manifest and its tag.
CREATE TABLE manifests (
    id             INTEGER PRIMARY KEY,
    repository_id  INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    digest         TEXT    NOT NULL,
    media_type     TEXT    NOT NULL,
    -- As the referrers API gives it: the artifact type, else the config's media type.
    artifact_type  TEXT,
    subject        TEXT,
    config         TEXT,
    -- JSON object.
    annotations    TEXT    NOT NULL,
    size           INTEGER NOT NULL,
    bytes          BLOB    NOT NULL,
    created_at     INTEGER NOT NULL,
    UNIQUE (repository_id, digest)
) STRICT;
CREATE INDEX manifests_by_subject ON manifests (repository_id, subject, digest) WHERE subject IS NOT NULL;

-- What a manifest keeps alive within its repository. Foreign layers are not in it.
CREATE TABLE manifest_edges (
    manifest_id  INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
    kind         TEXT    NOT NULL CHECK (kind IN ('blob', 'manifest')),
    digest       TEXT    NOT NULL,
    PRIMARY KEY (manifest_id, kind, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX manifest_edges_by_digest ON manifest_edges (digest);

CREATE TABLE tags (
    repository_id  INTEGER NOT NULL REFERENCES repositories (id) ON DELETE CASCADE,
    name           TEXT    NOT NULL,
    manifest_id    INTEGER NOT NULL REFERENCES manifests (id) ON DELETE CASCADE,
    updated_at     INTEGER NOT NULL,
    PRIMARY KEY (repository_id, name)
) STRICT, WITHOUT ROWID;
CREATE INDEX tags_by_manifest ON tags (manifest_id);

-- An upload's offset is its file's length.
CREATE TABLE uploads (
    id          TEXT    PRIMARY KEY,
    repository  TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    touched_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX uploads_by_touch ON uploads (touched_at);

-- Written before an upload is renamed to its digest, dropped with the blob's row: all that a start has to look at.
CREATE TABLE intents (
    upload_id   TEXT    PRIMARY KEY,
    repository  TEXT    NOT NULL,
    digest      TEXT    NOT NULL,
    size        INTEGER NOT NULL,
    checksums   BLOB    NOT NULL,
    created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Named references from above: roots of collection.
CREATE TABLE pins (
    name        TEXT    NOT NULL,
    repository  TEXT    NOT NULL,
    digest      TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    PRIMARY KEY (name, repository, digest)
) STRICT, WITHOUT ROWID;
CREATE INDEX pins_by_digest ON pins (digest, repository);

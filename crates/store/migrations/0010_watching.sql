-- Locks that are looked at anew, packages that are kept, builds that are built again.

-- The images whose locks a run resolves anew; no row: all of them.
CREATE TABLE run_images (
    run   INTEGER NOT NULL REFERENCES runs (number),
    image TEXT NOT NULL,
    PRIMARY KEY (run, image)
) STRICT, WITHOUT ROWID;

-- What a run found when it looked at an image's outside inputs.
CREATE TABLE lock_looks (
    run      INTEGER NOT NULL REFERENCES runs (number),
    image    TEXT NOT NULL,
    document TEXT NOT NULL,                   -- JSON: moves::LockLook
    PRIMARY KEY (run, image)
) STRICT, WITHOUT ROWID;

-- The packages that a `bootstrap` step's key was built from; the registry has them as blobs, pinned as `packages/KEY`.
CREATE TABLE kept_packages (
    key        TEXT NOT NULL PRIMARY KEY,
    document   TEXT NOT NULL,                 -- JSON: list of outcome::KeptPackage
    created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- Whether building a key again gave the same digest. No row: unproved.
CREATE TABLE proofs (
    key    TEXT NOT NULL PRIMARY KEY REFERENCES builds (key),
    result TEXT NOT NULL,                     -- proved, refuted
    digest TEXT NOT NULL,                     -- what the last build again gave
    at     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

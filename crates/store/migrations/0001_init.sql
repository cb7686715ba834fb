-- control.db, version 1 (DESIGN section 9). Times are RFC 3339 text in UTC; digests, keys and names are their text forms.

CREATE TABLE sources (
    id             INTEGER PRIMARY KEY,
    name           TEXT NOT NULL UNIQUE,      -- as configured; the definition's own name is in definition_name
    url            TEXT NOT NULL,             -- without credentials
    definition_name TEXT,                     -- `name:` of the newest readable commit: first component of its repositories
    default_branch TEXT,
    polled_at      TEXT,
    poll_error     TEXT,
    poll_failures  INTEGER NOT NULL DEFAULT 0,
    created_at     TEXT NOT NULL
) STRICT;

-- The commit of each followed branch for which a run was decided. A commit becomes a run in the same transaction.
CREATE TABLE branches (
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    name       TEXT NOT NULL,
    commit_id  TEXT NOT NULL,
    decided_at TEXT NOT NULL,
    PRIMARY KEY (source_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE runs (
    number      INTEGER PRIMARY KEY,
    source_id   INTEGER NOT NULL REFERENCES sources (id),
    branch      TEXT NOT NULL,
    commit_id   TEXT NOT NULL,
    subject     TEXT NOT NULL,
    author      TEXT NOT NULL,
    trigger     TEXT NOT NULL,
    state       TEXT NOT NULL,
    generation  INTEGER NOT NULL DEFAULT 0,
    locks       TEXT NOT NULL DEFAULT '{}',   -- JSON: image → overlay number or null for the committed lock, fixed when planned
    diagnostics TEXT NOT NULL DEFAULT '[]',   -- JSON: format::Diagnostic
    summary     TEXT,                         -- the plan in one line
    failure     TEXT,                         -- why the run as a whole failed
    release     INTEGER,
    created_at  TEXT NOT NULL,
    started_at  TEXT,
    finished_at TEXT
) STRICT;
CREATE INDEX runs_by_source ON runs (source_id, number);
CREATE INDEX runs_open ON runs (state) WHERE state IN ('queued', 'preparing', 'running', 'releasing');

-- A run's plan and how far it is: one row per node and platform.
CREATE TABLE run_nodes (
    run         INTEGER NOT NULL REFERENCES runs (number),
    node        TEXT NOT NULL,                -- `hmi/plant-a`, or a prefix `hmi~1a2b3c4d5e6f`
    platform    TEXT NOT NULL,
    variant     TEXT,
    position    INTEGER NOT NULL,             -- in the plan's order
    key         TEXT,
    action      TEXT NOT NULL,
    reason      TEXT NOT NULL,
    state       TEXT NOT NULL,
    job         TEXT,
    attempts    INTEGER NOT NULL DEFAULT 0,
    phase       TEXT,
    failure     TEXT,                         -- JSON: outcome::JobFailure
    digest      TEXT,                         -- the platform manifest
    steps       TEXT NOT NULL DEFAULT '[]',   -- JSON: nodes::PathStep, all steps from scratch to this node
    not_before  TEXT,                         -- when a retry is due
    started_at  TEXT,
    finished_at TEXT,
    PRIMARY KEY (run, node, platform)
) STRICT, WITHOUT ROWID;

-- The first manifest recorded for a key is the manifest of that key, for good.
CREATE TABLE builds (
    key           TEXT NOT NULL PRIMARY KEY,
    repository    TEXT NOT NULL,
    digest        TEXT NOT NULL,
    manifest_size INTEGER NOT NULL,
    image_size    INTEGER NOT NULL,
    duration_ms   INTEGER NOT NULL,
    run           INTEGER NOT NULL REFERENCES runs (number),
    job           TEXT NOT NULL,
    created_at    TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE check_sets (
    digest   TEXT NOT NULL PRIMARY KEY,
    document TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE verdicts (
    id         INTEGER PRIMARY KEY,
    digest     TEXT NOT NULL,                 -- the platform manifest
    repository TEXT NOT NULL,
    lane       TEXT NOT NULL,
    check_set  TEXT NOT NULL REFERENCES check_sets (digest),
    inputs     TEXT NOT NULL,                 -- digest of verdict::LaneInputs
    origin     TEXT NOT NULL,                 -- ran, inherited, external
    result     TEXT NOT NULL,                 -- passed, failed
    kind       TEXT,                          -- outcome::FailureKind of a failed one
    document   TEXT NOT NULL,                 -- JSON: verdict::Verdict
    run        INTEGER NOT NULL REFERENCES runs (number),
    published  TEXT,                          -- digest of the referrer
    created_at TEXT NOT NULL
) STRICT;
CREATE INDEX verdicts_by_digest ON verdicts (digest, lane, check_set, inputs, id);

CREATE TABLE locks (
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    image      TEXT NOT NULL,
    number     INTEGER NOT NULL,
    request    TEXT NOT NULL,
    document   TEXT NOT NULL,                 -- JSON: lock::Lock
    reason     TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (source_id, image, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE indexes (
    digest     TEXT NOT NULL PRIMARY KEY,
    repository TEXT NOT NULL,
    manifests  TEXT NOT NULL                  -- JSON: platform → manifest digest
) STRICT, WITHOUT ROWID;

CREATE TABLE releases (
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    number     INTEGER NOT NULL,
    run        INTEGER NOT NULL REFERENCES runs (number),
    branch     TEXT NOT NULL,
    commit_id  TEXT NOT NULL,
    created_at TEXT NOT NULL,
    PRIMARY KEY (source_id, number)
) STRICT, WITHOUT ROWID;

CREATE TABLE release_entries (
    source_id  INTEGER NOT NULL,
    release    INTEGER NOT NULL,
    variant    TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest     TEXT NOT NULL,                 -- of the index
    origin     TEXT NOT NULL,
    reason     TEXT NOT NULL,
    PRIMARY KEY (source_id, release, variant),
    FOREIGN KEY (source_id, release) REFERENCES releases (source_id, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX release_entries_by_repository ON release_entries (repository, release);

CREATE TABLE channels (
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    name       TEXT NOT NULL,
    spec       TEXT NOT NULL,                 -- JSON: spec::ChannelSpec of the newest commit of the default branch
    release    INTEGER,                       -- none until the first one
    generation INTEGER NOT NULL DEFAULT 0,
    hold       TEXT,                          -- why it does not follow at the moment
    moved_at   TEXT,
    PRIMARY KEY (source_id, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY,
    at      TEXT NOT NULL,
    actor   TEXT NOT NULL,
    action  TEXT NOT NULL,
    subject TEXT NOT NULL,
    detail  TEXT NOT NULL                     -- JSON
) STRICT;

-- The outbox: every change of state, written by triggers in the transaction of the change itself, so that none is lost and
-- none is told that did not happen. Bounded: the oldest go first, whether everybody has read them or not.
CREATE TABLE events (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    at      TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    kind    TEXT NOT NULL,                    -- run, node, release, channel
    source  TEXT NOT NULL,
    subject TEXT NOT NULL,                    -- `plants/runs/7`, `plants/runs/7/nodes/hmi/plant-a`
    data    TEXT NOT NULL                     -- JSON
) STRICT;
CREATE TRIGGER events_bounded AFTER INSERT ON events BEGIN
    DELETE FROM events WHERE id <= new.id - 50000;
END;
CREATE TRIGGER run_queued AFTER INSERT ON runs BEGIN
    INSERT INTO events (kind, source, subject, data)
    SELECT 'run', name, name || '/runs/' || new.number, json_object('run', new.number, 'branch', new.branch,
        'commit', new.commit_id, 'subject', new.subject, 'trigger', new.trigger, 'state', new.state, 'previous', NULL,
        'summary', NULL, 'failure', NULL, 'release', NULL) FROM sources WHERE id = new.source_id;
END;
CREATE TRIGGER run_changed AFTER UPDATE OF state ON runs WHEN old.state IS NOT new.state BEGIN
    INSERT INTO events (kind, source, subject, data)
    SELECT 'run', name, name || '/runs/' || new.number, json_object('run', new.number, 'branch', new.branch,
        'commit', new.commit_id, 'subject', new.subject, 'trigger', new.trigger, 'state', new.state, 'previous', old.state,
        'summary', new.summary, 'failure', new.failure, 'release', new.release) FROM sources WHERE id = new.source_id;
END;
CREATE TRIGGER node_changed AFTER UPDATE OF state ON run_nodes WHEN old.state IS NOT new.state BEGIN
    INSERT INTO events (kind, source, subject, data)
    SELECT 'node', name, name || '/runs/' || new.run || '/nodes/' || new.node, json_object('run', new.run,
        'node', new.node, 'platform', new.platform, 'variant', new.variant, 'action', new.action, 'reason', new.reason,
        'state', new.state, 'previous', old.state, 'attempts', new.attempts, 'digest', new.digest,
        'failure', json(new.failure)) FROM runs JOIN sources ON sources.id = runs.source_id WHERE runs.number = new.run;
END;
CREATE TRIGGER release_made AFTER INSERT ON releases BEGIN
    INSERT INTO events (kind, source, subject, data)
    SELECT 'release', name, name || '/releases/' || new.number, json_object('release', new.number, 'run', new.run,
        'branch', new.branch, 'commit', new.commit_id) FROM sources WHERE id = new.source_id;
END;
CREATE TRIGGER channel_moved AFTER UPDATE OF release, hold ON channels
    WHEN old.release IS NOT new.release OR old.hold IS NOT new.hold BEGIN
    INSERT INTO events (kind, source, subject, data)
    SELECT 'channel', sources.name, sources.name || '/channels/' || new.name, json_object('channel', new.name,
        'release', new.release, 'previous', old.release, 'hold', new.hold) FROM sources WHERE id = new.source_id;
END;

-- How far each sink has been told.
CREATE TABLE sinks (
    name     TEXT NOT NULL PRIMARY KEY,
    told     INTEGER NOT NULL,                -- events.id
    failures INTEGER NOT NULL DEFAULT 0,      -- failed tries in a row
    error    TEXT
) STRICT, WITHOUT ROWID;

-- Inventory: what the default branch declares apart from images. It is reconciled at every poll, whatever runs do.

-- The commit of the default branch that the inventory is of; why a newer one was not taken over.
ALTER TABLE sources ADD COLUMN inventory_commit TEXT;
ALTER TABLE sources ADD COLUMN inventory_at TEXT;
ALTER TABLE sources ADD COLUMN inventory_error TEXT;

CREATE TABLE sites (
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    id         TEXT NOT NULL,                 -- as declared, immutable
    name       TEXT NOT NULL,                 -- its folder
    labels     TEXT NOT NULL,                 -- JSON: spec::Labels
    changed_at TEXT NOT NULL,
    removed_at TEXT,                          -- since when no commit declares it
    PRIMARY KEY (source_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE slots (
    source_id  INTEGER NOT NULL,
    site       TEXT NOT NULL,                 -- sites.id
    id         TEXT NOT NULL,                 -- as declared, immutable
    name       TEXT,                          -- for people
    image      TEXT NOT NULL,
    variant    TEXT,                          -- that its device runs; none while the image has errors
    channel    TEXT,                          -- that its device follows; none: not said
    labels     TEXT NOT NULL,                 -- JSON: spec::Labels
    changed_at TEXT NOT NULL,
    removed_at TEXT,                          -- since when no commit declares it
    PRIMARY KEY (source_id, site, id),
    FOREIGN KEY (source_id, site) REFERENCES sites (source_id, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE rollout_policies (
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    name       TEXT NOT NULL,
    spec       TEXT NOT NULL,                 -- JSON: spec::RolloutSpec
    changed_at TEXT NOT NULL,
    PRIMARY KEY (source_id, name)
) STRICT, WITHOUT ROWID;

-- Channels: `target` is the release that a channel should be at, `completed` what its tag answers.
DROP TRIGGER channel_moved;
ALTER TABLE channels RENAME COLUMN release TO completed;
ALTER TABLE channels ADD COLUMN target INTEGER;
ALTER TABLE channels ADD COLUMN pin INTEGER;             -- the release that it was pinned to
ALTER TABLE channels ADD COLUMN pin_reason TEXT;
ALTER TABLE channels ADD COLUMN floor INTEGER NOT NULL DEFAULT 0;   -- takes newer releases only: set by a restore
ALTER TABLE channels ADD COLUMN removed_at TEXT;         -- since when no commit declares it
UPDATE channels SET target = completed;
CREATE TRIGGER channel_moved AFTER UPDATE OF target, completed, hold, pin ON channels
    WHEN old.target IS NOT new.target OR old.completed IS NOT new.completed OR old.hold IS NOT new.hold
      OR old.pin IS NOT new.pin BEGIN
    INSERT INTO events (kind, source, subject, data)
    SELECT 'channel', sources.name, sources.name || '/channels/' || new.name, json_object('channel', new.name,
        'target', new.target, 'release', new.completed, 'previous', old.completed, 'hold', new.hold, 'pin', new.pin)
    FROM sources WHERE id = new.source_id;
END;

-- Every release that a channel took, and when: `after:` counts from it.
CREATE TABLE channel_moves (
    id        INTEGER PRIMARY KEY,
    source_id INTEGER NOT NULL REFERENCES sources (id),
    channel   TEXT NOT NULL,
    release   INTEGER NOT NULL,
    at        TEXT NOT NULL,
    reason    TEXT NOT NULL
) STRICT;
CREATE INDEX channel_moves_by_channel ON channel_moves (source_id, channel, id);
INSERT INTO channel_moves (source_id, channel, release, at, reason)
SELECT source_id, name, completed, coalesce(moved_at, strftime('%Y-%m-%dT%H:%M:%SZ', 'now')), 'before moves were recorded'
FROM channels WHERE completed IS NOT NULL;

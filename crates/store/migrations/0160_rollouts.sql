-- Rollouts: a release on its way to the devices of a channel. A rollout is its history: rows of `rollout_events`
-- that are applied in the order of their numbers. All other columns that change are for lists.
CREATE TABLE rollouts (
    number     INTEGER PRIMARY KEY,
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    channel    TEXT NOT NULL,
    release    INTEGER NOT NULL,              -- that its devices get
    before     INTEGER,                       -- that the channel had completed
    kind       TEXT NOT NULL,                 -- release, rollback
    policy     TEXT,                          -- its name, as declared when it began
    spec       TEXT NOT NULL,                 -- JSON: spec::RolloutSpec, as declared when it began
    salt       TEXT NOT NULL,
    baseline   TEXT NOT NULL,                 -- JSON: gate::Outcomes of the rollouts that were complete before
    reason     TEXT NOT NULL,                 -- why the channel takes the release
    state      TEXT NOT NULL,
    stage      INTEGER NOT NULL DEFAULT 0,    -- that is open
    generation INTEGER NOT NULL DEFAULT 0,    -- the number of the last event
    outcomes   TEXT,                          -- JSON: gate::Outcomes, once it has ended
    started_at TEXT NOT NULL,
    ended_at   TEXT
) STRICT;
CREATE INDEX rollouts_by_channel ON rollouts (source_id, channel, number);
-- One active rollout for each channel.
CREATE UNIQUE INDEX rollouts_open ON rollouts (source_id, channel) WHERE ended_at IS NULL;

-- Its devices, as they were when they were added: the engine is made from them.
CREATE TABLE rollout_members (
    rollout    INTEGER NOT NULL REFERENCES rollouts (number),
    member     INTEGER NOT NULL,              -- its number in events
    device     TEXT NOT NULL,
    part       TEXT NOT NULL,                 -- first: there from the beginning; joined; watched: only for its group
    site       TEXT NOT NULL,
    variant    TEXT NOT NULL,
    labels     TEXT NOT NULL,                 -- JSON: spec::Labels of slot and site
    grouped    TEXT,                          -- its redundancy group at its site
    patience_s INTEGER NOT NULL,              -- how long its confirmation takes, in 99 of 100 cases
    seen_at    TEXT,
    after_digest  TEXT NOT NULL,
    after_in      TEXT NOT NULL,              -- its repository
    before_digest TEXT,                       -- none: it has none yet
    before_in     TEXT,
    PRIMARY KEY (rollout, member)
) STRICT, WITHOUT ROWID;
CREATE INDEX rollout_members_by_device ON rollout_members (device, rollout);

-- What happened. The number is given when it happens, so two servers cannot both write the next one.
CREATE TABLE rollout_events (
    rollout    INTEGER NOT NULL REFERENCES rollouts (number),
    number     INTEGER NOT NULL,
    at         TEXT NOT NULL,
    kind       TEXT NOT NULL,                 -- offered, healthy, failed, …
    member     INTEGER,
    event      TEXT NOT NULL,                 -- JSON: state::Event
    actor      TEXT,                          -- who gave an order
    PRIMARY KEY (rollout, number)
) STRICT, WITHOUT ROWID;

-- Digests that no channel takes and no device is answered with, unless it is all that the device ever had.
CREATE TABLE quarantine (
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    digest     TEXT NOT NULL,                 -- of an index
    reason     TEXT NOT NULL,
    actor      TEXT NOT NULL,
    at         TEXT NOT NULL,
    PRIMARY KEY (source_id, digest)
) STRICT, WITHOUT ROWID;

-- The release that an operator rolled back to an earlier one by this release; none if a run made it.
ALTER TABLE releases ADD COLUMN takes_back INTEGER;

CREATE TRIGGER rollout_started AFTER INSERT ON rollouts BEGIN
    INSERT INTO events (kind, source, subject, data)
    SELECT 'rollout', sources.name, sources.name || '/rollouts/' || new.number, json_object('rollout', new.number,
        'channel', new.channel, 'release', new.release, 'before', new.before, 'kind', new.kind, 'stage', new.stage,
        'state', new.state, 'previous', NULL, 'reason', new.reason) FROM sources WHERE id = new.source_id;
END;
CREATE TRIGGER rollout_changed AFTER UPDATE OF state, stage ON rollouts
    WHEN old.state IS NOT new.state OR old.stage IS NOT new.stage BEGIN
    INSERT INTO events (kind, source, subject, data)
    SELECT 'rollout', sources.name, sources.name || '/rollouts/' || new.number, json_object('rollout', new.number,
        'channel', new.channel, 'release', new.release, 'before', new.before, 'kind', new.kind, 'stage', new.stage,
        'state', new.state, 'previous', old.state, 'reason', new.reason) FROM sources WHERE id = new.source_id;
END;

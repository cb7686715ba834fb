-- Copies in external registries, and images of pull requests.

-- How far each target has what a channel holds: one row for each release that a channel came to.
CREATE TABLE target_copies (
    target     TEXT NOT NULL,                 -- as configured
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    channel    TEXT NOT NULL,
    release    INTEGER NOT NULL,
    place      TEXT NOT NULL,                 -- hash of address and names: another place needs another copy
    state      TEXT NOT NULL,                 -- waiting, copying, copied, failed
    verdicts   INTEGER NOT NULL DEFAULT 0,    -- the newest of verdicts.id that was copied
    failures   INTEGER NOT NULL DEFAULT 0,    -- failed tries in a row
    error      TEXT,
    hint       TEXT,
    changed_at TEXT NOT NULL,
    PRIMARY KEY (target, source_id, channel, release)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER target_changed AFTER UPDATE OF state ON target_copies WHEN old.state IS NOT new.state BEGIN
    INSERT INTO events (kind, source, subject, data)
    SELECT 'target', name, name || '/targets/' || new.target || '/' || new.channel, json_object('target', new.target,
        'channel', new.channel, 'release', new.release, 'state', new.state, 'previous', old.state, 'failures', new.failures,
        'error', new.error) FROM sources WHERE id = new.source_id;
END;

-- The indexes that were copied whole, with all that is known about them, so that what a release carries is not looked at again.
CREATE TABLE target_images (
    target     TEXT NOT NULL,
    place      TEXT NOT NULL,
    repository TEXT NOT NULL,                 -- in the target
    digest     TEXT NOT NULL,
    verdicts   INTEGER NOT NULL,              -- the newest of verdicts.id about it that was copied
    copied_at  TEXT NOT NULL,
    PRIMARY KEY (target, place, repository, digest)
) STRICT, WITHOUT ROWID;

-- What a pull request built last: its tags `pr-N`. Gone when it ends.
CREATE TABLE pull_requests (
    source_id  INTEGER NOT NULL REFERENCES sources (id),
    name       TEXT NOT NULL,                 -- its ref
    run        INTEGER NOT NULL REFERENCES runs (number),
    variant    TEXT NOT NULL,
    repository TEXT NOT NULL,
    digest     TEXT NOT NULL,                 -- of the index
    PRIMARY KEY (source_id, name, variant)
) STRICT, WITHOUT ROWID;

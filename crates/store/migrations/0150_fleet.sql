-- Devices that are enrolled, each in a slot of a site. A row is never removed: a retired device is history.
CREATE TABLE fleet_devices (
    id           TEXT PRIMARY KEY,              -- given by the server, never used again
    source_id    INTEGER NOT NULL REFERENCES sources (id),
    site         TEXT NOT NULL,                 -- sites.id
    slot         TEXT NOT NULL,                 -- slots.id
    state        TEXT NOT NULL,                 -- waiting, active, held, revoked, retired
    reason       TEXT,                          -- of the state, for people
    pin          INTEGER,                       -- the release that an operator pinned it to
    pin_reason   TEXT,
    serial       TEXT,                          -- as the device gave it
    enrolled_at  TEXT NOT NULL,
    changed_at   TEXT NOT NULL,                 -- of the state or the pin
    seen_at      TEXT,                          -- its last authenticated request
    delivered    TEXT,                          -- the digest of the last answer
    delivered_in TEXT,                          -- its repository
    delivered_at TEXT,                          -- when it was answered first
    confirmed    TEXT,                          -- the last digest that ran healthy
    confirmed_in TEXT,
    confirmed_at TEXT,
    is_unsure    INTEGER NOT NULL DEFAULT 0,    -- a backup was restored: it may have a newer digest than known here
    clone        TEXT,                          -- why it may be two machines, for people
    clone_at     TEXT
) STRICT, WITHOUT ROWID;
CREATE INDEX fleet_devices_by_slot ON fleet_devices (source_id, site, slot);
-- A slot has one device at a time.
CREATE UNIQUE INDEX fleet_devices_in_slot ON fleet_devices (source_id, site, slot)
    WHERE state IN ('waiting', 'active', 'held');

-- Credentials of devices. An older one stays valid until its time is over.
CREATE TABLE device_credentials (
    hash       TEXT PRIMARY KEY,                -- SHA-256 of the credential
    device     TEXT NOT NULL REFERENCES fleet_devices (id),
    created_at TEXT NOT NULL,
    expires_at TEXT                             -- none: the current one
) STRICT, WITHOUT ROWID;
CREATE INDEX device_credentials_by_device ON device_credentials (device);

-- Tokens that devices exchange for an identity.
CREATE TABLE enrolment_tokens (
    id             INTEGER PRIMARY KEY,
    hash           TEXT NOT NULL UNIQUE,        -- SHA-256 of the token
    source_id      INTEGER NOT NULL REFERENCES sources (id),
    site           TEXT NOT NULL,
    slot           TEXT,                        -- none: any slot of the site that is free and matches
    labels         TEXT NOT NULL,               -- JSON: spec::Labels that the slot must have
    serials        TEXT NOT NULL,               -- JSON: serial numbers that may use it; empty: any
    uses           INTEGER NOT NULL,            -- that are left
    needs_approval INTEGER NOT NULL,
    replaces       TEXT,                        -- the device of the slot that is retired by its use
    created_by     TEXT NOT NULL,
    created_at     TEXT NOT NULL,
    expires_at     TEXT NOT NULL
) STRICT;

-- Exchanges: one that is repeated, because its response was lost, gets the same device again.
CREATE TABLE enrolments (
    token   INTEGER NOT NULL REFERENCES enrolment_tokens (id),
    attempt TEXT NOT NULL,                      -- SHA-256 of what the device chose
    device  TEXT NOT NULL REFERENCES fleet_devices (id),
    PRIMARY KEY (token, attempt)
) STRICT, WITHOUT ROWID;

-- What is known about a device and a digest: one row for each rung of the ladder, with its first time.
CREATE TABLE device_evidence (
    device TEXT NOT NULL REFERENCES fleet_devices (id),
    digest TEXT NOT NULL,
    rung   TEXT NOT NULL,                       -- offered, downloaded, booted, healthy, failed
    basis  TEXT NOT NULL,                       -- observed, reported, inferred
    at     TEXT NOT NULL,
    PRIMARY KEY (device, digest, rung, basis)
) STRICT, WITHOUT ROWID;

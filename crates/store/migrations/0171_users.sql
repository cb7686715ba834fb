-- Local users, with their grants, and their tokens as hashes. What a user did remains in the audit trail.
CREATE TABLE users (
    name       TEXT PRIMARY KEY,
    grants     TEXT NOT NULL,                 -- JSON: ["operator:source=plants"]
    created_at TEXT NOT NULL
) STRICT;

CREATE TABLE user_tokens (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    user       TEXT NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    hash       TEXT NOT NULL UNIQUE,          -- SHA-256 of the token
    created_at TEXT NOT NULL,
    expires_at TEXT NOT NULL
) STRICT;

CREATE INDEX user_tokens_by_user ON user_tokens (user, id);

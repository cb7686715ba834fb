-- The time up to which retention removes what is old. It follows the clock in small steps, so that a clock that
-- jumps removes nothing.
CREATE TABLE confirmed_time (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    at TEXT NOT NULL
) STRICT;

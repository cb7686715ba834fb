-- Devices that report, and their reports. A device numbers them in a stream; sending one again changes nothing.
CREATE TABLE devices (
    device TEXT PRIMARY KEY,
    reported_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX devices_by_time ON devices (reported_at);

CREATE TABLE device_reports (
    id INTEGER PRIMARY KEY,
    device TEXT NOT NULL,
    stream TEXT NOT NULL,
    sequence INTEGER NOT NULL,
    received_at TEXT NOT NULL,
    document TEXT NOT NULL,
    UNIQUE (device, stream, sequence)
) STRICT;
CREATE INDEX device_reports_by_device ON device_reports (device, id);

-- A cancel is recorded before it is acknowledged: from then on the run can only end as cancelled.
ALTER TABLE runs ADD COLUMN cancel_requested_at TEXT;

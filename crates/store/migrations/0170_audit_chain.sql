-- The chain of the audit trail: the SHA-256 of a row's canonical form, which includes the hash of the row before
-- (crates/model/src/audit.rs). Rows of earlier versions are chained right after this migration, in the same start.
ALTER TABLE audit ADD COLUMN hash TEXT;

CREATE TRIGGER audit_rows_are_kept BEFORE DELETE ON audit
BEGIN
    SELECT RAISE(ABORT, 'rows of the audit trail are never removed');
END;

CREATE TRIGGER audit_rows_do_not_change BEFORE UPDATE ON audit WHEN OLD.hash IS NOT NULL
BEGIN
    SELECT RAISE(ABORT, 'rows of the audit trail never change');
END;

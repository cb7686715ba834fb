-- The audit trail in the words of principals: who did what to what, and what it was before and after.
ALTER TABLE audit RENAME COLUMN action TO operation;
ALTER TABLE audit RENAME COLUMN subject TO object;
ALTER TABLE audit RENAME COLUMN detail TO after;
ALTER TABLE audit ADD COLUMN before TEXT;     -- JSON
ALTER TABLE audit ADD COLUMN request TEXT;    -- the id of the request, where there was one

-- Until now only releases wrote rows, one for each channel that they moved, named without their source.
UPDATE audit SET
    actor = 'system:releases',
    operation = 'channel.move',
    object = coalesce((SELECT sources.name || '/channels/' || audit.object FROM runs
                       JOIN sources ON sources.id = runs.source_id
                       WHERE runs.number = json_extract(audit.after, '$.run')), audit.object)
WHERE operation = 'move channel';

CREATE INDEX audit_by_object ON audit (object, id);

-- Nodes that wait for the verdict of another system, and the event that announces each. The state of a node may
-- stay the same when it begins to wait: a digest that exists is only tested.
CREATE VIEW awaited_verdicts AS
SELECT run_nodes.run, run_nodes.node, run_nodes.platform, run_nodes.variant, run_nodes.digest,
    note.value ->> 'lane' AS lane, note.value ->> 'check_set' AS check_set, note.value ->> 'until' AS until
FROM run_nodes, json_each(run_nodes.notes) AS note
WHERE run_nodes.state = 'waiting' AND note.value ->> 'note' = 'awaiting';
CREATE TRIGGER verdict_awaited AFTER UPDATE OF notes ON run_nodes
    WHEN old.notes IS NOT new.notes
    AND NOT EXISTS (SELECT 1 FROM json_each(old.notes) WHERE value ->> 'note' = 'awaiting') BEGIN
    INSERT INTO events (kind, source, subject, data)
    SELECT 'verdict', name, name || '/runs/' || new.run || '/nodes/' || new.node, json_object('run', awaited.run,
        'node', awaited.node, 'platform', awaited.platform, 'variant', awaited.variant, 'digest', awaited.digest,
        'lane', awaited.lane, 'check_set', awaited.check_set, 'until', awaited.until)
    FROM awaited_verdicts AS awaited JOIN runs ON runs.number = awaited.run JOIN sources ON sources.id = runs.source_id
    WHERE awaited.run = new.run AND awaited.node = new.node AND awaited.platform IS new.platform;
END;

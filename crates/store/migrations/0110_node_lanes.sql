-- The lanes that a commit asks for of each node, with their check sets: a digest may have verdicts for others, too.
-- NULL in rows of earlier versions: it is not known.
ALTER TABLE run_nodes ADD COLUMN lanes TEXT;

-- What a node's state does not say by itself: exceptions that cover a failed check, verdicts that were taken over, what it
-- waits for.
ALTER TABLE run_nodes ADD COLUMN notes TEXT NOT NULL DEFAULT '[]';   -- JSON: verdict::Note

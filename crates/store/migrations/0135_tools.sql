-- The programs that a run's plan was fixed with, and those that decided about the bytes of a build.
ALTER TABLE runs ADD COLUMN tools TEXT NOT NULL DEFAULT '{}';
ALTER TABLE builds ADD COLUMN tools TEXT NOT NULL DEFAULT '{}';

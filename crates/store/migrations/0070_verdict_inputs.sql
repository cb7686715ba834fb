-- The identity of a verdict no longer has the bytes of the check runner: what was recorded with any runner counts as the
-- first semantic version of its profile, so that nothing is tested again for this. The digests are those of
-- verdict::LaneInputs, held by a test there.
UPDATE verdicts SET
    document = json_set(
        json_remove(document, '$.inputs.runner'),
        '$.inputs.semantics', 1,
        '$.recorded_on',
        CASE json_extract(document, '$.inputs.profile')
            -- Another system's verdict had no runner of ours.
            WHEN 'external' THEN json_object()
            ELSE json_object('runner', json_extract(document, '$.inputs.runner'))
        END
    ),
    inputs = CASE json_extract(document, '$.inputs.profile')
        WHEN 'podman' THEN 'sha256:51a5ef230e3097e4bd44cd0fbd0acbf14c8327b2a673f77a67804b3a29979de6'
        WHEN 'none' THEN 'sha256:af4774f2b4eb8cc5bc6b96b7ae135a9b8251d2a53222b2bddd51cf041e8703b7'
        WHEN 'external' THEN 'sha256:384a1815b30ed9b00e5d43b27c55204275eff5136f2de98b737c3e6caad5ec58'
        ELSE inputs
    END
WHERE json_type(document, '$.inputs.runner') IS NOT NULL;

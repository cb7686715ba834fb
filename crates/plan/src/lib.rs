//! Pure planning: commit and history give graph, keys, plan and reasons.

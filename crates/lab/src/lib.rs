//! Runs a digest as a container, brings in checks, collects evidence, gives a verdict.

//! Use-cases and reconcilers: sources, runs, releases.

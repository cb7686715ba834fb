//! Prefix nodes.

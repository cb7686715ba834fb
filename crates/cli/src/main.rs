//! The `edgewright` command.

fn main() {}

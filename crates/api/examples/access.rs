//! Prints the table of who may call what; `cargo xtask generate` writes it to docs/reference/access.md.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    write!(std::io::stdout(), "{}", edgewright_api::access::document())
}

//! Prints the OpenAPI document; `cargo xtask generate` writes it to docs/reference/openapi.json.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    let text = serde_json::to_string_pretty(&edgewright_api::openapi::document())?;
    writeln!(std::io::stdout(), "{text}")
}

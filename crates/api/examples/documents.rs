//! Prints the reference of the JSON documents, as an object that maps names of files to their text;
//! `cargo xtask generate` writes them to docs/reference/json.

use std::io::Write as _;

fn main() -> std::io::Result<()> {
    let files = edgewright_api::documents::reference().map_err(std::io::Error::other)?;
    writeln!(std::io::stdout(), "{}", serde_json::to_string(&files)?)
}

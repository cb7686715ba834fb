//! The reference of the JSON documents: `docs/reference/json`, made by an example of the API's crate.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// The files, from what the example printed: an object that maps their names to their text.
pub(crate) fn files(folder: &Path, printed: &str) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let files: BTreeMap<String, String> =
        serde_json::from_str(printed).context("the example `documents` printed no object of texts")?;
    Ok(files.into_iter().map(|(name, text)| (folder.join(name), text)).collect())
}

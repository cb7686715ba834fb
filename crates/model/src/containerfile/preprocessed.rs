//! Containerfiles that podman and buildah run through the C preprocessor.
//!
//! Edgewright does not: what cpp reads (`#include` of any path) is not known when a run is planned. A file
//! with such a name is rejected, because built as it is it would be another image, and no error.

/// The ending of the names of such files.
pub const PREPROCESSED: &str = ".in";

/// Whether podman and buildah would preprocess a Containerfile with this name.
pub fn is_preprocessed(name: &str) -> bool {
    name.ends_with(PREPROCESSED)
}

/// How to get the file that podman would build.
pub fn preprocess_hint(name: &str) -> String {
    let name = name.escape_debug().to_string();
    let out = name.strip_suffix(PREPROCESSED).filter(|out| !out.is_empty() && !out.ends_with('/'));
    let out = out.unwrap_or("Containerfile");
    format!(
        "commit what cpp makes of it (`cpp -E -P -traditional -undef {name} > {out}`), and name that file; if it has no macros, rename it"
    )
}

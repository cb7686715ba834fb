//! Containers that the runtime or the storage still has and podman does not know: podman was killed before it
//! recorded them. Their monitor and their first process have neither a job's environment nor its label; they
//! are identified by their folder in the runtime, or their name in the storage.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use edgewright_model::order::JobId;
use serde::Deserialize;

/// A container in the output of `runc list --format json` and `crun list --format json`.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    bundle: PathBuf,
}

/// The ids of the containers below a folder that podman does not know.
pub(super) fn orphans(listing: &[u8], folder: &Path, known: &BTreeSet<String>) -> Vec<String> {
    // Without any container the runtimes print `null`.
    let listed: Option<Vec<Listed>> = serde_json::from_slice(listing).unwrap_or_default();
    let mut ids: Vec<String> = listed
        .unwrap_or_default()
        .into_iter()
        .filter(|listed| listed.bundle.starts_with(folder) && !known.contains(&listed.id))
        .map(|listed| listed.id)
        .collect();
    ids.sort_unstable();
    ids
}

/// The ids of the containers of a job, or of any, that are in the storage only, from lines with id, name and
/// status.
pub(super) fn unrecorded(listing: &str, job: Option<&JobId>) -> Vec<String> {
    let prefix = job.map_or_else(|| "edgewright-".to_owned(), |job| format!("edgewright-{job}-"));
    let fields = listing.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter_map(|fields| match *fields.as_slice() {
            [id, name, "Storage"] if name.starts_with(&prefix) => Some(id.to_owned()),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_that_are_in_the_storage_only_are_identified_by_name() {
        let job = JobId(uuid::Uuid::nil());
        let listing = format!(
            "aa edgewright-{job}-container Storage\nbb edgewright-kept Up 3 minutes\n\
             cc edgewright-other-container Storage\ndd buildah-working-container Buildah\nee theirs Storage\n"
        );
        assert_eq!(unrecorded(&listing, Some(&job)), ["aa"]);
        assert_eq!(unrecorded(&listing, None), ["aa", "cc"]);
    }

    #[test]
    fn containers_of_podman_and_of_other_programs_are_left_alone() {
        let listing = br#"[
            {"ociVersion":"1.0","id":"lost","pid":7,"status":"created","bundle":"/data/work/containers/storage/overlay-containers/lost/userdata"},
            {"id":"buildah-1","pid":0,"status":"stopped","bundle":"/data/work/jobs/a/tmp/buildah1"},
            {"id":"kept","pid":8,"status":"running","bundle":"/data/work/containers/storage/overlay-containers/kept/userdata"},
            {"id":"theirs","pid":9,"status":"running","bundle":"/data/workshop/theirs"}
        ]"#;
        let known = BTreeSet::from(["kept".to_owned()]);
        assert_eq!(orphans(listing, Path::new("/data/work"), &known), ["buildah-1", "lost"]);
        assert_eq!(orphans(listing, Path::new("/data/work/jobs/a"), &known), ["buildah-1"]);
        for nothing in [&b"null"[..], b"", b"no JSON", b"[]"] {
            assert!(orphans(nothing, Path::new("/data/work"), &known).is_empty());
        }
    }
}

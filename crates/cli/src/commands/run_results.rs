//! The results of a run as files, one value each: what steps of other pipelines read.

use std::collections::BTreeMap;
use std::path::Path;

use edgewright_api::{ReleaseView, RunView};
use edgewright_model::Digest;
use edgewright_model::names::VariantName;
use edgewright_model::run::{ReleaseNumber, RunState};

use crate::exit::Failure;
use crate::output;
use crate::reader::Reader;

/// How many releases are searched for the one that holds a run's images.
const RELEASES: u32 = 100;
/// The most bytes of the result `digests`. Tekton passes 4096 bytes for all results of a step.
const MAX_DIGESTS: usize = 3_400;

/// Writes the results of a run into a folder.
pub(super) async fn write(
    folder: &Path,
    reader: &Reader,
    view: &RunView,
    variants: &[VariantName],
) -> Result<(), Failure> {
    let run = &view.run;
    let release = match (run.state, run.release) {
        (RunState::Passed, _) => {
            let releases = reader.releases(Some(&run.source), RELEASES).await?;
            holding(&releases, view).cloned()
        }
        (_, Some(number)) => {
            let found = reader.release(number, Some(&run.source)).await?;
            found.into_iter().next()
        }
        (_, None) => None,
    };
    let number = release.as_ref().map(|release| release.number);
    let values = [
        ("run", run.number.to_string()),
        ("state", run.state.to_string()),
        ("commit", run.commit.clone()),
        ("release", number.as_ref().map(ToString::to_string).unwrap_or_default()),
        ("digests", digests(release.as_ref(), variants)?),
    ];
    write_files(folder, &values).await
}

/// Writes values into files of a folder.
pub(super) async fn write_files(folder: &Path, values: &[(&str, String)]) -> Result<(), Failure> {
    tokio::fs::create_dir_all(folder)
        .await
        .map_err(|error| Failure::file("cannot create", folder, &error))?;
    for (name, value) in values {
        let file = folder.join(name);
        tokio::fs::write(&file, value).await.map_err(|error| Failure::file("cannot write", &file, &error))?;
    }
    Ok(())
}

/// The release that holds the images of a run that passed: its own, or the one before if no digest changed.
fn holding<'a>(releases: &'a [ReleaseView], view: &RunView) -> Option<&'a ReleaseView> {
    let number: Option<ReleaseNumber> = view.run.release;
    releases
        .iter()
        .filter(|release| release.branch == view.run.branch)
        .filter(|release| number.map_or(release.run <= view.run.number, |number| release.number == number))
        .max_by_key(|release| release.number)
}

/// The digests of a release's variants as one JSON object; empty if they are more than a result holds.
fn digests(release: Option<&ReleaseView>, variants: &[VariantName]) -> Result<String, Failure> {
    let entries = release.map(|release| release.entries.as_slice()).unwrap_or_default();
    let all: BTreeMap<&VariantName, &Digest> = entries
        .iter()
        .filter(|entry| variants.is_empty() || variants.contains(&entry.variant))
        .map(|entry| (&entry.variant, &entry.digest))
        .collect();
    if release.is_some()
        && let Some(missing) = variants.iter().find(|variant| !all.contains_key(variant))
    {
        return Err(Failure::user(format!("the release has no variant `{missing}`"))
            .hint("`edgewright images` lists the variants"));
    }
    let named: BTreeMap<String, &Digest> =
        all.into_iter().map(|(variant, digest)| (variant.to_string(), digest)).collect();
    let text = serde_json::to_string(&named).unwrap_or_default();
    if text.len() <= MAX_DIGESTS {
        return Ok(text);
    }
    output::note(&format!(
        "the result `digests` is left empty: {} variants need {} bytes, and a result holds {MAX_DIGESTS}; name some \
         with --variant",
        named.len(),
        text.len()
    ));
    Ok("{}".to_owned())
}

#[cfg(test)]
mod tests {
    use edgewright_api::ReleaseEntry;
    use edgewright_model::run::{EntryOrigin, RunNumber};

    use super::*;

    fn release(number: u32, run: u32, variants: usize) -> ReleaseView {
        let entry = |index: usize| ReleaseEntry {
            variant: format!("hmi/plant-{index}").parse().unwrap(),
            repository: "plants/hmi".parse().unwrap(),
            digest: Digest::of(index.to_string()),
            origin: EntryOrigin::New,
            reason: String::new(),
        };
        ReleaseView {
            number: ReleaseNumber(number),
            source: "plants".parse().unwrap(),
            branch: "main".to_owned(),
            commit: String::new(),
            run: RunNumber(run),
            created: jiff::Timestamp::UNIX_EPOCH,
            channels: Vec::new(),
            entries: (0..variants).map(entry).collect(),
        }
    }

    #[test]
    fn digests_are_one_object_of_bounded_size() {
        let two = release(1, 1, 2);
        let [zero, one] = ["0", "1"].map(Digest::of);
        let all = format!(r#"{{"hmi/plant-0":"{zero}","hmi/plant-1":"{one}"}}"#);
        assert_eq!(digests(Some(&two), &[]).unwrap(), all);
        let some = digests(Some(&two), &["hmi/plant-1".parse().unwrap()]).unwrap();
        assert_eq!(some, format!(r#"{{"hmi/plant-1":"{one}"}}"#));
        assert!(digests(Some(&two), &["edge".parse().unwrap()]).is_err());
        assert_eq!(digests(None, &["edge".parse().unwrap()]).unwrap(), "{}");
        assert_eq!(digests(Some(&release(1, 1, 500)), &[]).unwrap(), "{}");
        assert!(digests(Some(&release(1, 1, 38)), &[]).unwrap().len() <= MAX_DIGESTS);
    }

    #[test]
    fn a_run_that_changed_nothing_has_the_release_before_it() {
        let view = |number: u32, release: Option<u32>| -> RunView {
            let json = serde_json::json!({
                "number": number, "source": "plants", "branch": "main", "commit": "", "subject": "", "author": "",
                "trigger": "commit", "state": "passed", "summary": null, "counts": {},
                "created": "2026-11-28T12:00:00Z", "started": null, "finished": null, "release": release,
                "diagnostics": [], "nodes": [], "error": null,
            });
            serde_json::from_value(json).unwrap()
        };
        let releases = [release(3, 9, 0), release(2, 5, 0), release(1, 2, 0)];
        let found = |view: &RunView| holding(&releases, view).map(|release| release.number.0);
        assert_eq!(found(&view(7, None)), Some(2));
        assert_eq!(found(&view(9, Some(3))), Some(3));
        assert_eq!(found(&view(1, None)), None);
    }
}

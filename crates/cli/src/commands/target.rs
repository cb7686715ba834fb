//! What a command works on: a folder, an address, a variant of either.

use std::collections::BTreeMap;
use std::path::Path;

use edgewright_control::SourceSettings;
use edgewright_model::error::ErrorClass;
use edgewright_model::names::{VarName, VariantName};
use edgewright_model::resolve::{self, ResolvedVar};
use edgewright_model::spec::Definition;
use edgewright_server::folder::FolderError;
use edgewright_server::settings::{DEFAULT_POLL, name_of};
use edgewright_server::{DataFolder, FolderLock};
use edgewright_source::Remote;

use super::check::{Folder, show};
use crate::exit::Failure;

/// A folder or address, and a variant of its source.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) dir: String,
    pub(super) variant: Option<VariantName>,
}

impl Place {
    /// From a positional argument and `--dir`. What is neither address nor folder, but could be a variant, is
    /// one of the source in this folder.
    pub(super) fn of(target: Option<&str>, dir: Option<&str>) -> Result<Self, Failure> {
        let variant = |text: &str| text.parse::<VariantName>();
        match (target, dir) {
            (None, dir) => Ok(Self { dir: dir.unwrap_or(".").to_owned(), variant: None }),
            (Some(target), Some(dir)) => match variant(target) {
                Ok(variant) => Ok(Self { dir: dir.to_owned(), variant: Some(variant) }),
                Err(error) => Err(Failure::user(error.to_string())
                    .hint("with --dir, the argument is a variant such as hmi/plant-a")),
            },
            (Some(target), None) => {
                let is_place = is_address(target) || Path::new(target).exists();
                match variant(target).ok().filter(|_| !is_place) {
                    Some(variant) => Ok(Self { dir: ".".to_owned(), variant: Some(variant) }),
                    None => Ok(Self { dir: target.to_owned(), variant: None }),
                }
            }
        }
    }
}

/// Whether a target is an address, not a path.
pub(super) fn is_address(target: &str) -> bool {
    target.contains("://") || (target.contains('@') && target.contains(':'))
}

/// A variant's variables; an error for a variant that the source does not declare.
pub(super) fn resolved(
    definition: &Definition,
    variant: &VariantName,
) -> Result<BTreeMap<VarName, ResolvedVar>, Failure> {
    let hint = "`edgewright check` shows all errors, `edgewright plan --all` all variants";
    if !definition.images.contains_key(&variant.image) {
        let message = format!("there is no variant `{variant}`: there is no image `{}`", variant.image);
        return Err(Failure::new(ErrorClass::NotFound, message).hint(hint));
    }
    resolve::vars(definition, variant).map_err(|error| Failure::from(error).hint(hint))
}

/// Locks a data folder for work in this process.
pub(super) fn lock(data: &Path) -> Result<FolderLock, Failure> {
    DataFolder::new(data).lock().map_err(|error| {
        let hint = match &error {
            FolderError::Held { holder, .. } => {
                Some(match holder.as_ref().and_then(|holder| holder.address.as_ref()) {
                    Some(address) => format!(
                        "push a commit to a source that the server at http://{address} follows, or use another \
                         folder with --data DIR"
                    ),
                    None => "wait for it to end, or use another folder with --data DIR".to_owned(),
                })
            }
            FolderError::Io { .. } => None,
        };
        let failure = Failure::from(error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    })
}

/// A source that is to be run.
pub(super) struct Target {
    pub(super) settings: SourceSettings,
    /// The folder that it is read from; its files stay readable as long as this lives.
    pub(super) folder: Option<Folder>,
    /// Whether files are built that are not committed.
    pub(super) is_dirty: bool,
}

/// Reads a source; none if the folder's definitions cannot even be read, whose errors are then shown.
pub(super) async fn read(target: &str, branch: Option<&str>) -> Result<Option<Target>, Failure> {
    let poll = DEFAULT_POLL.get();
    if is_address(target) {
        let remote: Remote = target.parse()?;
        let name = name_of(remote.address()).ok_or_else(|| {
            Failure::user(format!("cannot make a source name from {target}"))
                .hint("name the source in a settings file, and use `edgewright serve`")
        })?;
        let branch = branch.map(str::to_owned);
        let settings = SourceSettings { branch, ..SourceSettings::new(name, remote, poll) };
        return Ok(Some(Target { settings, folder: None, is_dirty: false }));
    }
    let dir = Path::new(target);
    let folder = Folder::read(dir).await?;
    let Some(definition) = &folder.parsed.definition else {
        show(&folder.parsed.diagnostics, &folder.worktree.tree);
        return Ok(None);
    };
    let name = definition.source.name.clone();
    let path = tokio::fs::canonicalize(dir).await;
    let path = path.map_err(|error| Failure::file("cannot use", dir, &error))?;
    let own = Remote::from_path(&path)?;
    let is_dirty = branch.is_none() && (folder.worktree.dirty || folder.worktree.head.is_none());
    let (remote, branch) = if is_dirty {
        let (branch, _) = folder.worktree.publish(&folder.git).await?;
        (Remote::from_path(folder.worktree.repository.folder())?.displayed_as(&own), Some(branch))
    } else {
        (own, branch.map(str::to_owned).or_else(|| folder.worktree.branch.clone()))
    };
    let settings = SourceSettings { branch, ..SourceSettings::new(name, remote, poll) };
    Ok(Some(Target { settings, folder: Some(folder), is_dirty }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_folder_an_address_or_a_variant() {
        type Case = (Option<&'static str>, Option<&'static str>, &'static str, Option<&'static str>);
        let folder = tempfile::tempdir().unwrap();
        let existing = folder.path().to_str().unwrap();
        let cases: [Case; 6] = [
            (None, None, ".", None),
            (None, Some("/d"), "/d", None),
            (Some("hmi/plant-a"), None, ".", Some("hmi/plant-a")),
            (Some("hmi/plant-a"), Some("/d"), "/d", Some("hmi/plant-a")),
            (Some("https://h/x.git"), None, "https://h/x.git", None),
            (Some("./no-such-folder"), None, "./no-such-folder", None),
        ];
        for (target, dir, place, variant) in cases {
            let variant = variant.map(|name| name.parse().unwrap());
            let expected = Place { dir: place.to_owned(), variant };
            assert_eq!(Place::of(target, dir).unwrap(), expected, "{target:?} {dir:?}");
        }
        assert_eq!(Place::of(Some(existing), None).unwrap().dir, existing);
        assert!(Place::of(Some(existing), Some("/d")).is_err());
    }
}

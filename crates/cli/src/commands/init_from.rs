//! `init --from`: a source around an existing Containerfile, or a repository of them. What they start from
//! becomes an image of the source, so that it is locked and checked for updates; the Containerfile starts
//! from that image's digest.

mod context;
mod convert;
mod copy;
mod find;
mod notes;
mod repository;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use edgewright_model::containerfile::{Fault, is_preprocessed, preprocess_hint};

use self::convert::{Base, convert};
use self::copy::{Selection, copy};
use crate::exit::{End, Failure};
use crate::output;

/// The image that the Containerfile builds.
const IMAGE: &str = "system";

/// Writes a source into an empty or new folder.
pub(crate) async fn init(from: &Path, dir: &Path) -> Result<End, Failure> {
    if tokio::fs::metadata(from).await.is_ok_and(|metadata| metadata.is_dir()) {
        return repository::init(from, dir).await;
    }
    let write = {
        let (from, dir) = (from.to_owned(), dir.to_owned());
        move || write(&from, &dir)
    };
    let base = super::blocking(write).await??;
    super::init::commit(dir, "Start from a Containerfile").await?;
    output::note(&format!(
        "{0} is a git repository with the images `base` ({base}) and `{IMAGE}` (your Containerfile).\n\n\
         Next:\n  cd {0}\n  edgewright check   check its files\n  \
         edgewright run     build, test and release it once",
        dir.display(),
    ));
    Ok(End::Good)
}

/// Writes all files of the source. Returns what its base starts from.
fn write(containerfile: &Path, dir: &Path) -> Result<String, Failure> {
    super::init::refuse_occupied(dir)?;
    let file_name = containerfile.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    if is_preprocessed(&file_name) {
        let message = format!(
            "cannot take over {}: podman and buildah run files with this name through cpp, Edgewright does not",
            containerfile.display()
        );
        return Err(Failure::user(message).hint(preprocess_hint(&containerfile.display().to_string())));
    }
    let text = std::fs::read_to_string(containerfile)
        .map_err(|error| Failure::file("cannot read", containerfile, &error))?;
    let converted = convert(&text, |_| false).map_err(|Fault { line, message, hint }| {
        Failure::user(format!("line {line}: {message}")).hint(hint)
    })?;
    let base = match &converted.base {
        Base::External(reference) => reference.to_string(),
        Base::Local(name) => name.clone(),
    };
    let context =
        containerfile.canonicalize().map_err(|error| Failure::file("cannot read", containerfile, &error))?;
    let context = context.parent().map(Path::to_owned).unwrap_or_default();
    refuse_inside(dir, &context, "the Containerfile's own folder")?;
    let image = dir.join("images").join(IMAGE);
    copy(&context, &image, Selection { listed: None }.files(&context)?, false)?;
    let own = image.join(containerfile.file_name().unwrap_or_default());
    let _ = std::fs::remove_file(&own);
    // Ignore files that are named after the Containerfile are renamed with it.
    for suffix in ["containerignore", "dockerignore"] {
        let beside = |path: &Path| PathBuf::from(format!("{}.{suffix}", path.display()));
        let _ = std::fs::rename(beside(&own), beside(&image.join("Containerfile")));
    }
    put(&dir.join("edgewright.yaml"), &format!("edgewright: 1\nname: {}\n", source_name(dir)))?;
    put(&dir.join("images/base/image.yaml"), &format!("from: {base}\ntest: none\n"))?;
    put(&image.join("Containerfile"), &converted.text)?;
    put(
        &image.join("image.yaml"),
        "from: base\nsteps:\n  - containerfile: Containerfile\nchecks:\n  - {id: system-up, systemd: running, timeout: 120s}\n",
    )?;
    Ok(base)
}

/// The name of a source in this folder.
fn source_name(dir: &Path) -> String {
    let name = dir.canonicalize().ok().or_else(|| std::path::absolute(dir).ok());
    let name = name.and_then(|dir| edgewright_server::settings::name_of(&dir.display().to_string()));
    name.map_or_else(|| "my-os".to_owned(), |name| name.to_string())
}

/// Rejects a target inside of the folder that is copied.
fn refuse_inside(dir: &Path, copied: &Path, what: &str) -> Result<(), Failure> {
    if resolved(dir).is_some_and(|dir| dir.starts_with(copied)) {
        let message = format!("{} is in {what}, which is copied", dir.display());
        return Err(Failure::user(message).hint("name a folder outside of it"));
    }
    Ok(())
}

/// The absolute path of a folder that may not exist yet, without `..` and links.
fn resolved(dir: &Path) -> Option<PathBuf> {
    let existing = dir.ancestors().find_map(|folder| {
        // The parent of a relative path is an empty one.
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        Some((folder, folder.canonicalize().ok()?))
    });
    let (folder, resolved) = existing?;
    Some(resolved.join(dir.strip_prefix(folder).unwrap_or(dir)))
}

fn put(path: &Path, text: &str) -> Result<(), Failure> {
    let folder = path.parent().unwrap_or(path);
    std::fs::create_dir_all(folder).map_err(|error| Failure::file("cannot create", folder, &error))?;
    // A copy may be read-only, or a link.
    let _ = std::fs::remove_file(path);
    std::fs::write(path, text).map_err(|error| Failure::file("cannot write", path, &error))
}

#[cfg(test)]
mod paths {
    use super::*;

    #[test]
    fn folders_that_do_not_exist_yet_are_resolved() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("old")).unwrap();
        assert_eq!(resolved(&root.join("old/../new/deb")).unwrap(), root.join("new/deb"));
        assert_eq!(resolved(&root.join("old/deb")).unwrap(), root.join("old/deb"));
        assert_eq!(resolved(Path::new("no-such")).unwrap(), std::env::current_dir().unwrap().join("no-such"));
    }
}

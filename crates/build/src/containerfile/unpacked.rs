//! The build context as buildah reads it: a folder.

use std::path::{Path, PathBuf};

use edgewright_model::order::Context;
use edgewright_model::outcome::{JobFailure, Phase};

use crate::context::BuildContext;
use crate::image_state::blocking;
use crate::{failure, fetch};

/// The mode of all folders of a build context.
const FOLDER_MODE: u32 = 0o755;

/// Unpacks the build context into `folder`; gives its folder there.
pub(super) async fn unpack(
    ctx: &BuildContext,
    context: &Context,
    folder: &Path,
) -> Result<PathBuf, JobFailure> {
    let tar = fetch::open(ctx, context, folder).await?;
    let target = folder.join("context");
    let unpacked = target.clone();
    blocking(move || -> std::io::Result<()> {
        std::fs::create_dir_all(&target)?;
        let mut archive = tar::Archive::new(tar);
        archive.set_preserve_permissions(true);
        archive.set_preserve_ownerships(false);
        archive.unpack(&target)?;
        set_folder_modes(&target)
    })
    .await?
    .map_err(|error| failure::local(Phase::Fetch, &error))?;
    Ok(unpacked)
}

/// Gives all folders of a context the same mode: git has none for them, and that of new folders depends on
/// this process's umask. `COPY` takes it over.
fn set_folder_modes(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(FOLDER_MODE))?;
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_mode_of_folders_does_not_depend_on_how_they_were_made() {
        let root = tempfile::tempdir().unwrap();
        let deep = root.path().join("a/b");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("file"), "").unwrap();
        std::os::unix::fs::symlink("/", deep.join("link")).unwrap();
        for path in [&deep, &deep.join("file")] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        set_folder_modes(root.path()).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(&deep), 0o755);
        assert_eq!(mode(root.path()), 0o755);
        assert_eq!(mode(&deep.join("file")), 0o700, "files have the modes of the commit");
    }
}

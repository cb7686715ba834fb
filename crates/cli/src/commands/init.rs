//! `init`: the sample source as a git repository.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::Duration;

use edgewright_model::error::ErrorClass;
use edgewright_process::Command;

use crate::exit::{End, Failure};
use crate::output;
use crate::sample::FILES;

/// How long any git command on the new repository may take.
const GIT_LIMIT: Duration = Duration::from_mins(1);

/// Writes the sample into an empty or new folder and commits it.
pub(crate) async fn init(dir: &Path) -> Result<End, Failure> {
    refuse_occupied(dir)?;
    write(dir)?;
    commit(dir, "Start from the Edgewright sample").await?;
    output::note(&format!(
        "{} is a git repository with a sample source, `plant-os` (`name:` in its edgewright.yaml): one base, two roles, \
         two sites.\n\n\
         Next:\n  cd {0}\n  edgewright check                 check its files\n  \
         edgewright plan                  show what a run would build, and why\n  \
         edgewright run                   build, test and release it once\n  \
         edgewright serve --source $PWD   follow and host it",
        dir.display()
    ));
    Ok(End::Good)
}

/// Makes the folder a git repository with one commit of all its files.
pub(super) async fn commit(dir: &Path, message: &str) -> Result<(), Failure> {
    git(dir, &["init", "--quiet", "--initial-branch=main"]).await?;
    git(dir, &["add", "--all"]).await?;
    let mut commit = Vec::new();
    // A commit needs an author. If none is configured, this one gets a neutral author.
    if git(dir, &["var", "GIT_AUTHOR_IDENT"]).await.is_err() {
        commit.extend(["-c", "user.name=Edgewright", "-c", "user.email=edgewright@localhost"]);
    }
    let message = format!("--message={message}");
    commit.extend(["commit", "--quiet", &message]);
    git(dir, &commit).await
}

pub(super) fn refuse_occupied(dir: &Path) -> Result<(), Failure> {
    let is_empty = match std::fs::read_dir(dir) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => return Err(Failure::file("cannot use", dir, &error)),
    };
    if is_empty {
        return Ok(());
    }
    Err(Failure::new(ErrorClass::Conflict, format!("{} is not empty: nothing was written", dir.display()))
        .hint("name a folder that is empty or does not exist"))
}

fn write(dir: &Path) -> Result<(), Failure> {
    for file in FILES {
        let path = dir.join(file.path);
        let folder = path.parent().unwrap_or(dir);
        std::fs::create_dir_all(folder).map_err(|error| Failure::file("cannot create", folder, &error))?;
        let mode = if file.is_executable() { 0o777 } else { 0o666 };
        let mut options = std::fs::OpenOptions::new();
        let opened = options.write(true).create_new(true).mode(mode).open(&path);
        opened
            .and_then(|mut target| std::io::Write::write_all(&mut target, file.bytes))
            .map_err(|error| Failure::file("cannot write", &path, &error))?;
    }
    Ok(())
}

async fn git(dir: &Path, arguments: &[&str]) -> Result<(), Failure> {
    Command::new("git").args(arguments.iter().copied()).cwd(dir).deadline(GIT_LIMIT).run().await?;
    Ok(())
}

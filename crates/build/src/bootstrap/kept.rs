//! Packages as blobs: the packages of a `bootstrap` step are kept, so that the same key can be rebuilt when
//! the mirror has newer packages or cannot be reached.
//!
//! For a rebuild, apt gets a local repository of exactly these packages, made from their control files.
//! Measured on Debian 13: byte-identical to the build from the mirror.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use edgewright_model::digest::{Algorithm, Hasher};
use edgewright_model::grants;
use edgewright_model::lock::LockedPackage;
use edgewright_model::order::ImageTask;
use edgewright_model::outcome::{JobEvent, JobFailure, KeptPackage, KeptPackages, Phase};
use edgewright_model::reference::RepoName;
use edgewright_oci::client::QUIET;
use edgewright_process::Command;
use futures::{FutureExt as _, StreamExt as _, TryStreamExt as _, stream};

use super::apt::archive_name;
use crate::context::{BuildContext, Events};
use crate::failure;
use crate::image_state::blocking;

/// Concurrent uploads and downloads of packages: packages are small, so latency costs more than bandwidth,
/// and the registry commits concurrent uploads together.
const AT_ONCE: usize = 16;

/// The files of a finished bootstrap in the job's folder that are kept.
#[derive(Debug)]
pub(crate) struct Leftovers {
    /// The installed archives.
    pub(super) archives: PathBuf,
    /// The image's `sources.list`.
    pub(super) sources: PathBuf,
}

/// Pushes the installed packages. None if one is missing: then the key cannot be rebuilt, which is logged;
/// the image is still valid.
pub(crate) async fn keep(
    task: &ImageTask,
    ctx: &BuildContext,
    packages: &[LockedPackage],
    left: &Leftovers,
    events: Events<'_>,
) -> Result<Option<KeptPackages>, JobFailure> {
    let Some(repository) = grants::packages(&task.repository) else { return Ok(None) };
    let sources = tokio::fs::read_to_string(&left.sources).await.unwrap_or_default();
    if let Some(missing) =
        missing(packages, left).await?.or_else(|| sources.is_empty().then(|| "sources.list".to_owned()))
    {
        events(JobEvent::Log { line: format!("packages are not kept: {missing} is missing") });
        return Ok(None);
    }
    let pushes: Vec<_> =
        packages.iter().map(|package| push(package, &repository, ctx, left).boxed()).collect();
    let kept = stream::iter(pushes);
    let kept: Vec<KeptPackage> = kept.buffered(AT_ONCE).try_collect().await?;
    events(JobEvent::Log { line: format!("kept {} packages in {repository}", kept.len()) });
    Ok(Some(KeptPackages { repository: repository.clone(), sources, packages: kept }))
}

/// The first package whose archive is missing.
async fn missing(packages: &[LockedPackage], left: &Leftovers) -> Result<Option<String>, JobFailure> {
    let mut archives: Vec<_> = packages
        .iter()
        .map(|package| (package.name.clone(), left.archives.join(archive_name(package))))
        .collect();
    blocking(move || {
        archives.retain(|(_, archive)| !archive.is_file());
        archives.into_iter().next().map(|(name, _)| name)
    })
    .await
}

async fn push(
    package: &LockedPackage,
    repository: &RepoName,
    ctx: &BuildContext,
    left: &Leftovers,
) -> Result<KeptPackage, JobFailure> {
    let path = left.archives.join(archive_name(package));
    let hashed = blocking({
        let path = path.clone();
        move || hash(&path)
    });
    let (digest, size) = hashed.await?.map_err(|error| failure::local(Phase::Push, &error))?;
    if package.sha256.as_ref().is_some_and(|locked| *locked != digest) {
        let message = format!("the archive of {} {} is not the locked one", package.name, package.version);
        let hint = "resolve a new lock with `edgewright update`";
        return Err(failure::infrastructure(Phase::Push, message, Some(hint)));
    }
    let pushed = ctx.client.push_blob_file(repository, &path, &digest, size, QUIET).await;
    pushed.map_err(|error| failure::registry(Phase::Push, &error))?;
    Ok(KeptPackage { package: package.clone(), digest, size })
}

fn hash(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let size = std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok((hasher.finish(), size))
}

/// Downloads kept packages and makes a repository of them; gives its line for apt.
pub(super) async fn repository_of(
    kept: &KeptPackages,
    suite: &str,
    ctx: &BuildContext,
    folder: &Path,
) -> Result<String, JobFailure> {
    let local = |error: std::io::Error| failure::local(Phase::Fetch, &error);
    tokio::fs::create_dir_all(folder).await.map_err(local)?;
    let fetches: Vec<_> =
        kept.packages.iter().map(|package| fetch(package, &kept.repository, ctx, folder).boxed()).collect();
    let stanzas = stream::iter(fetches);
    let stanzas: Vec<String> = stanzas.buffered(AT_ONCE).try_collect().await?;
    let packages = stanzas.concat();
    tokio::fs::write(folder.join("Packages"), &packages).await.map_err(local)?;
    tokio::fs::write(folder.join("Release"), release(suite, &packages)).await.map_err(local)?;
    Ok(format!("deb [trusted=yes] copy:{} ./", folder.display()))
}

/// Downloads a package; gives its paragraph of the `Packages` file.
async fn fetch(
    package: &KeptPackage,
    repository: &RepoName,
    ctx: &BuildContext,
    folder: &Path,
) -> Result<String, JobFailure> {
    let name = archive_name(&package.package);
    let path = folder.join(&name);
    let pulled = ctx.client.pull_blob_file(repository, &package.digest, &path, QUIET).await;
    pulled.map_err(|error| failure::registry(Phase::Fetch, &error))?;
    let fields = Command::new("dpkg-deb")
        .arg("-f")
        .arg(&path)
        .context(&ctx.process)
        .deadline(ctx.step_limit)
        .run()
        .await
        .map_err(|error| failure::infrastructure(Phase::Fetch, error.to_string(), None))?;
    let (fields, size, hex) = (fields.text(), package.size, package.digest.hex());
    Ok(format!("{}\nFilename: ./{name}\nSize: {size}\nSHA256: {hex}\n\n", fields.trim_end()))
}

/// The `Release` file: mmdebstrap takes essential packages from the suite of this name only.
fn release(suite: &str, packages: &str) -> String {
    let mut text =
        format!("Suite: {suite}\nCodename: {suite}\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, " {} {} Packages", Digest::of(packages).hex(), packages.len());
    text
}

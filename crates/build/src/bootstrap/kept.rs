//! Packages as blobs: what a `bootstrap` step was made of is kept, so that the same key can be built again when the mirror
//! has moved on, or cannot be reached.
//!
//! Built again, apt gets a repository of exactly these packages on the local disk, made from what the packages say of
//! themselves. Measured on Debian 13: byte-identical to the build from the mirror.

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

/// Packages that are sent or fetched at once: they are small, so waiting for answers costs more than sending; and the
/// registry commits those together that come together.
const AT_ONCE: usize = 16;

/// What a finished bootstrap leaves in the job's folder, to be kept.
#[derive(Debug)]
pub(crate) struct Leftovers {
    /// The archives that were installed.
    pub(super) archives: PathBuf,
    /// The image's `sources.list`.
    pub(super) sources: PathBuf,
}

/// Pushes the packages that were installed. None where one is not there any more: then the key cannot be built again,
/// which is said, but the image stands.
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
        events(JobEvent::Log { line: format!("packages are not kept: {missing} is not there any more") });
        return Ok(None);
    }
    let pushes: Vec<_> =
        packages.iter().map(|package| push(package, &repository, ctx, left).boxed()).collect();
    let kept = stream::iter(pushes);
    let kept: Vec<KeptPackage> = kept.buffered(AT_ONCE).try_collect().await?;
    events(JobEvent::Log { line: format!("{} packages are kept in {repository}", kept.len()) });
    Ok(Some(KeptPackages { repository: repository.clone(), sources, packages: kept }))
}

/// The first package whose archive is not there any more.
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
    let pushed = ctx.client.push_blob_file(repository, &path, &digest, size, QUIET).await;
    pushed.map_err(|error| failure::registry(Phase::Push, &error))?;
    Ok(KeptPackage { package: package.clone(), digest, size })
}

fn hash(path: &Path) -> std::io::Result<(Digest, u64)> {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let size = std::io::copy(&mut std::fs::File::open(path)?, &mut hasher)?;
    Ok((hasher.finish(), size))
}

/// Fetches kept packages and makes a repository of them; gives its line for apt.
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

/// Fetches a package; gives its paragraph of the list of packages.
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

/// mmdebstrap takes essential packages from the suite of this name only.
fn release(suite: &str, packages: &str) -> String {
    let mut text =
        format!("Suite: {suite}\nCodename: {suite}\nDate: Thu, 01 Jan 1970 00:00:00 UTC\nSHA256:\n");
    // Writing to a string cannot fail.
    let _ = writeln!(text, " {} {} Packages", Digest::of(packages).hex(), packages.len());
    text
}

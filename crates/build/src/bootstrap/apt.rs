//! A private apt: own configuration, sources, lists and state; only the programs are the host's.
//!
//! Lists and archives are shared through the cache folder, so that locking and building download once. They
//! are copied, because programs of the job may write to its files; archives are found by their hash.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use edgewright_model::Digest;
use edgewright_model::lock::LockedPackage;
use edgewright_model::outcome::{JobFailure, Phase};
use edgewright_process::{Command, CommandError};

use super::archives::Archives;
use super::repository::Repository;
use crate::context::BuildContext;
use crate::failure;

const DEBIAN_KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

#[derive(Clone)]
pub(crate) struct Apt {
    root: PathBuf,
    cached_lists: PathBuf,
    archives: Archives,
    has_keys: bool,
}

impl Apt {
    /// Writes configuration, sources and keys, and copies cached package lists.
    pub(crate) fn prepare(
        ctx: &BuildContext,
        repository: &Repository,
        keys: &BTreeMap<String, String>,
        architecture: &str,
        phase: Phase,
    ) -> Result<Self, JobFailure> {
        let identity = format!("{architecture}\n{}", repository.lines().join("\n"));
        let identity = Digest::of(&identity);
        let apt = Self {
            root: ctx.scratch.join("apt").join(identity.short()),
            cached_lists: ctx.cache.join("apt/lists").join(identity.short()),
            archives: Archives::new(&ctx.cache.join("apt/archives")),
            has_keys: !keys.is_empty(),
        };
        apt.write(repository, architecture).map_err(|error| failure::local(phase, &error))?;
        apt.write_keys(keys, phase)?;
        Ok(apt)
    }

    /// Fetches the lists of packages.
    pub(crate) async fn update(&self, ctx: &BuildContext) -> Result<(), CommandError> {
        self.command(ctx, "apt-get")
            .args(["-q", "-o", "APT::Update::Error-Mode=any", "update"])
            .run()
            .await?;
        // Without a cache, the next build is only slower.
        if let Err(error) = share(&self.lists(), &self.cached_lists) {
            tracing::warn!(%error, "cannot cache package lists");
        }
        Ok(())
    }

    /// The packages that installing `packages` into an empty system would install. A simulation (`-s`) gives
    /// the same, but also sorts the steps, which takes three times as long. Packages in `archives` would be
    /// omitted; it is always empty.
    pub(crate) async fn resolve(
        &self,
        ctx: &BuildContext,
        packages: &[String],
    ) -> Result<BTreeSet<LockedPackage>, CommandError> {
        let command = self
            .command(ctx, "apt-get")
            // Lists may have several hashes of a package; this one is printed.
            .args(["-q", "-o", "Acquire::ForceHash=SHA256", "--print-uris", "install", "--"])
            .args(packages);
        Ok(parse_uris(&command.run().await?.text()))
    }

    pub(crate) fn lists(&self) -> PathBuf {
        self.root.join("lists")
    }

    pub(crate) fn pins(&self) -> PathBuf {
        self.root.join("pins")
    }

    /// The folder of keys that all lines trust, if the repository has keys of its own.
    pub(crate) fn trusted(&self) -> Option<PathBuf> {
        self.has_keys.then(|| self.root.join("trusted"))
    }

    /// The folder of keys that the image's apt needs, if the repository has keys of its own.
    pub(crate) fn trusted_for_image(&self) -> Option<PathBuf> {
        self.has_keys.then(|| self.root.join("keys"))
    }

    /// A folder with the cached archives of the locked packages, each verified. Also pins apt to the locked
    /// versions.
    pub(crate) fn take_archives(&self, packages: &[LockedPackage]) -> std::io::Result<PathBuf> {
        let folder = self.root.join("packages");
        std::fs::create_dir_all(&folder)?;
        for package in packages {
            self.archives.take(package, &folder.join(archive_name(package)))?;
        }
        let pin = |package: &LockedPackage| {
            format!("Package: {}\nPin: version {}\nPin-Priority: 1001\n\n", package.name, package.version)
        };
        let pins: String = packages.iter().map(pin).collect();
        std::fs::write(self.pins(), pins)?;
        Ok(folder)
    }

    /// Caches downloaded packages for the next build. Gives the packages whose archive is not the locked one.
    pub(crate) fn save_archives(&self, folder: &Path, packages: &[LockedPackage]) -> Vec<String> {
        let mut wrong = Vec::new();
        for package in packages {
            match self.archives.save(package, &folder.join(archive_name(package))) {
                Ok(true) => {}
                Ok(false) => wrong.push(format!("{} {}", package.name, package.version)),
                Err(error) => tracing::warn!(%error, package = %package.name, "cannot cache a package"),
            }
        }
        if let Err(error) = self.archives.bound() {
            tracing::warn!(%error, "cannot bound the cache of packages");
        }
        wrong
    }

    fn command(&self, ctx: &BuildContext, program: &str) -> Command {
        Command::new(program)
            .context(&ctx.process)
            .env("APT_CONFIG", self.root.join("apt.conf"))
            .env("DEBIAN_FRONTEND", "noninteractive")
            .deadline(ctx.step_limit)
    }

    fn write(&self, repository: &Repository, architecture: &str) -> std::io::Result<()> {
        for folder in ["lists/partial", "archives/partial", "etc/preferences.d", "trusted", "keys"] {
            std::fs::create_dir_all(self.root.join(folder))?;
        }
        for entry in std::fs::read_dir(&self.cached_lists).into_iter().flatten().flatten() {
            copy(&entry.path(), &self.lists().join(entry.file_name()));
        }
        std::fs::write(self.root.join("status"), "")?;
        std::fs::write(self.root.join("sources.list"), repository.lines().join("\n") + "\n")?;
        let root = self.root.display();
        let trusted =
            if self.has_keys { format!("{root}/trusted") } else { "/etc/apt/trusted.gpg.d".to_owned() };
        let config = format!(
            "Dir::State \"{root}\";\nDir::State::lists \"{root}/lists\";\nDir::State::status \"{root}/status\";\n\
             Dir::Cache \"{root}\";\nDir::Cache::archives \"{root}/archives\";\n\
             Dir::Cache::pkgcache \"pkgcache.bin\";\nDir::Cache::srcpkgcache \"srcpkgcache.bin\";\n\
             Dir::Etc \"{root}/etc\";\nDir::Etc::main \"none\";\nDir::Etc::parts \"none\";\n\
             Dir::Etc::sourcelist \"{root}/sources.list\";\nDir::Etc::sourceparts \"none\";\n\
             Dir::Etc::trusted \"none\";\nDir::Etc::trustedparts \"{trusted}\";\n\
             APT::Architecture \"{architecture}\";\nAPT::Architectures {{ \"{architecture}\"; }};\n\
             APT::Install-Recommends \"false\";\nAPT::Sandbox::User \"root\";\n\
             Acquire::Languages \"none\";\nAcquire::Retries \"2\";\n",
        );
        std::fs::write(self.root.join("apt.conf"), config)
    }

    fn write_keys(&self, keys: &BTreeMap<String, String>, phase: Phase) -> Result<(), JobFailure> {
        if keys.is_empty() {
            return Ok(());
        }
        let local = |error: std::io::Error| failure::local(phase, &error);
        for (path, text) in keys {
            let Ok(bytes) = BASE64_STANDARD.decode(text) else {
                let message = format!("malformed key {path} in the order: not base64");
                return Err(failure::infrastructure(phase, message, None));
            };
            let armoured = bytes.starts_with(b"-----BEGIN PGP");
            let stem =
                path.rsplit('/').next().unwrap_or(path).trim_end_matches(".gpg").trim_end_matches(".asc");
            let name = format!("{stem}.{}", if armoured { "asc" } else { "gpg" });
            for folder in ["trusted", "keys"] {
                std::fs::write(self.root.join(folder).join(&name), &bytes).map_err(local)?;
            }
        }
        copy(Path::new(DEBIAN_KEYRING), &self.root.join("trusted/debian-archive-keyring.gpg"));
        Ok(())
    }
}

/// The file name that apt gives an archive: the epoch's colon is escaped.
pub(super) fn archive_name(package: &LockedPackage) -> String {
    format!("{}_{}_{}.deb", package.name, package.version.replace(':', "%3a"), package.architecture)
}

/// The packages of `'URI' NAME_VERSION_ARCHITECTURE.deb SIZE SHA256:HEX` lines.
fn parse_uris(text: &str) -> BTreeSet<LockedPackage> {
    let package = |line: &str| {
        let (_, rest) = line.strip_prefix('\'')?.split_once("' ")?;
        let mut words = rest.split_whitespace();
        let file = words.next()?.strip_suffix(".deb")?;
        let size = words.next().and_then(|size| size.parse().ok());
        let hash = words.next().and_then(|hash| hash.strip_prefix("SHA256:"));
        let sha256 = hash.and_then(|hex| format!("sha256:{hex}").parse::<Digest>().ok());
        let mut parts = file.split('_').map(unquoted);
        let (name, version, architecture) = (parts.next()??, parts.next()??, parts.next()??);
        Some(LockedPackage { name, version, architecture, size: size.filter(|_| sha256.is_some()), sha256 })
    };
    text.lines().filter_map(package).collect()
}

/// Decodes a part of a file name in which apt escaped characters, such as `%3a` for a colon.
fn unquoted(part: &str) -> Option<String> {
    let mut pieces = part.split('%');
    let mut text = pieces.next()?.to_owned();
    for piece in pieces {
        let code = u8::from_str_radix(piece.get(..2)?, 16).ok()?;
        text.push(char::from(code));
        text.push_str(&piece[2..]);
    }
    Some(text)
}

/// Copies a file (sharing its blocks where the file system can); does nothing if there is no such file. Never
/// a hard link: what the job does to its file must not reach the other one.
fn copy(from: &Path, to: &Path) {
    if from.is_file() && !to.exists() {
        let _ = std::fs::copy(from, to);
    }
}

/// Copies the files of one folder into another, each by rename, so that readers see whole files only.
fn share(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let name = entry.file_name();
        if !entry.file_type()?.is_file() || name == "lock" {
            continue;
        }
        let partial = to.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
        let _ = std::fs::remove_file(&partial);
        std::fs::copy(entry.path(), &partial)?;
        std::fs::rename(&partial, to.join(&name))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uris_of_apt_are_parsed() {
        let hex = "3c".repeat(32);
        let text = format!(
            "Reading package lists...\nThe following NEW packages will be installed:\n  libc6 passwd\n\
            'http://deb.debian.org/debian/pool/main/g/glibc/libc6_2.41-12%2bdeb13u5_amd64.deb' libc6_2.41-12+deb13u5_amd64.deb 2850108 SHA256:{hex}\n\
            'file:/srv/it's/passwd_4.17.4-2_all.deb' passwd_1%3a4.17.4-2_all.deb 10 \n\
            'http://x/odd.deb' odd 10 \n'http://x/bad' bad_%zz_amd64.deb 10\n\
            'http://x/md5_1_all.deb' md5_1_all.deb 10 MD5Sum:00\n"
        );
        let shown: Vec<String> = parse_uris(&text)
            .into_iter()
            .map(|p| {
                let hash = p.sha256.map(|hash| format!(" {} {}", hash.short(), p.size.unwrap()));
                format!("{}={}/{}{}", p.name, p.version, p.architecture, hash.unwrap_or_default())
            })
            .collect();
        assert_eq!(
            shown,
            ["libc6=2.41-12+deb13u5/amd64 3c3c3c3c3c3c 2850108", "md5=1/all", "passwd=1:4.17.4-2/all"]
        );
    }

    #[test]
    fn archives_have_apts_file_names() {
        let package = LockedPackage::new("passwd", "1:4.17", "amd64");
        assert_eq!(archive_name(&package), "passwd_1%3a4.17_amd64.deb");
    }

    #[test]
    fn shared_lists_are_copies() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        std::fs::create_dir_all(&from).unwrap();
        std::fs::write(from.join("InRelease"), "right").unwrap();
        share(&from, &to).unwrap();
        std::fs::write(from.join("InRelease"), "written by a job").unwrap();
        assert_eq!(std::fs::read_to_string(to.join("InRelease")).unwrap(), "right");
    }
}

//! Kernel and initramfs of an image: `/usr/lib/modules/VERSION/{vmlinuz,initramfs.img}`, as in bootc images
//! of every distribution. They are read from the finished root file system.

use std::cmp::Ordering;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use edgewright_process::Command;
use serde::{Deserialize, Serialize};

use crate::cpio::Archive;
use crate::folders::blocking;
use crate::modules::{self, Modules};
use crate::{Context, VmError};

/// Where kernels are.
const FOLDER: &str = "/usr/lib/modules";
/// The time limit to read one file.
const READING_TIMEOUT: Duration = Duration::from_mins(2);
/// Maximum size of the lists of modules, in bytes.
const MAX_LIST_BYTES: usize = 16 * 1024 * 1024;
/// Maximum size of a module as it is stored, in bytes.
const MAX_STORED_BYTES: usize = 64 * 1024 * 1024;

/// The kernel of an image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kernel {
    /// Its version.
    pub version: String,
    /// Whether the image has an initramfs of its own.
    pub has_initramfs: bool,
    /// The kernel arguments of the image, as bootc installs them.
    pub arguments: Vec<String>,
}

/// Finds the newest kernel in a root file system, and writes it, the image's initramfs and our modules to
/// `to`.
pub(crate) async fn extract(root: &Path, to: &Path, context: &Context) -> Result<Kernel, VmError> {
    let reader = Reader { root, context };
    let mut versions = reader.list(FOLDER).await?;
    versions.sort_by(|a, b| compare(a, b));
    let mut found = None;
    for version in versions.iter().rev() {
        let names = reader.list(&format!("{FOLDER}/{version}")).await?;
        if names.iter().any(|name| name == "vmlinuz") {
            found = Some((version.clone(), names.iter().any(|name| name == "initramfs.img")));
            break;
        }
    }
    let Some((version, has_initramfs)) = found else { return Err(no_kernel(&versions)) };
    let folder = format!("{FOLDER}/{version}");
    reader.file(&format!("{folder}/vmlinuz"), &to.join("vmlinuz")).await?;
    if has_initramfs {
        reader.file(&format!("{folder}/initramfs.img"), &to.join("initramfs.img")).await?;
    }
    let modules = modules(&reader, &folder, &version).await?;
    let path = to.join("modules.cpio");
    tokio::fs::write(&path, modules).await.map_err(VmError::io("write", &path))?;
    let arguments = arguments(&reader).await?;
    Ok(Kernel { version, has_initramfs, arguments })
}

/// Where bootc images name kernel arguments.
const ARGUMENTS: &str = "/usr/lib/bootc/kargs.d";
/// Maximum size of a file with kernel arguments, in bytes.
const MAX_ARGUMENTS_BYTES: usize = 64 * 1024;
/// Maximum length of all arguments: the kernel's own limit is 2048 bytes.
const MAX_ARGUMENTS_LENGTH: usize = 1024;

/// The arguments in [`ARGUMENTS`]. Malformed files are left out: bootc itself judges them.
async fn arguments(reader: &Reader<'_>) -> Result<Vec<String>, VmError> {
    let mut names = reader.list(ARGUMENTS).await?;
    names.retain(|name| Path::new(name).extension().is_some_and(|kind| kind == "toml"));
    names.sort();
    let mut found = Vec::new();
    for name in names {
        let text = reader.bytes(&format!("{ARGUMENTS}/{name}"), MAX_ARGUMENTS_BYTES).await?;
        found.extend(in_document(&String::from_utf8_lossy(&text)));
    }
    let mut left = MAX_ARGUMENTS_LENGTH;
    found.retain(|word: &String| {
        let fits = word.len() < left;
        left = left.saturating_sub(word.len() + 1);
        fits
    });
    Ok(found)
}

/// The arguments of one file.
fn in_document(text: &str) -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    struct Document {
        #[serde(default)]
        kargs: Vec<String>,
        #[serde(default)]
        match_architectures: Option<Vec<String>>,
    }
    let Ok(document) = toml::from_str::<Document>(text) else { return Vec::new() };
    let matches = document.match_architectures.is_none_or(|names| names.iter().any(|name| name == "x86_64"));
    let words = document.kargs.into_iter().filter(|word| !word.contains(|c: char| c.is_control()));
    if matches { words.collect() } else { Vec::new() }
}

/// The bytes of a file of a root file system; empty if it is missing.
pub(crate) async fn read_file(root: &Path, path: &str, context: &Context) -> Result<Vec<u8>, VmError> {
    Reader { root, context }.bytes(path, MAX_STORED_BYTES).await
}

fn no_kernel(versions: &[String]) -> VmError {
    let hint = "install a kernel, and copy it to /usr/lib/modules/VERSION/vmlinuz when the image is built";
    match versions.last() {
        Some(version) => {
            VmError::image(format!("the image has no kernel: {FOLDER}/{version}/vmlinuz is missing"), hint)
        }
        None => VmError::image(format!("the image has no kernel: {FOLDER} is missing or empty"), hint),
    }
}

/// The archive with the modules, in loading order.
async fn modules(reader: &Reader<'_>, folder: &str, version: &str) -> Result<Vec<u8>, VmError> {
    let list = async |name: &str| {
        let bytes = reader.bytes(&format!("{folder}/{name}"), MAX_LIST_BYTES).await?;
        Ok::<String, VmError>(String::from_utf8_lossy(&bytes).into_owned())
    };
    let known = Modules::parse(&list("modules.dep").await?, &list("modules.builtin").await?);
    let order = known.order().map_err(|missing| {
        let names = missing.join(", ");
        VmError::image(
            format!("the kernel {version} cannot start as a virtual machine: neither built in nor a module: {names}"),
            "use a kernel with these modules; run depmod when the image is built",
        )
    })?;
    let mut archive = Archive::new();
    archive.folder("edgewright-modules");
    let mut names = String::new();
    for (number, path) in order.iter().enumerate() {
        // Paths are relative to the folder of the version, but for modules from elsewhere.
        let full = if path.starts_with('/') { path.clone() } else { format!("{folder}/{path}") };
        let stored = reader.bytes(&full, MAX_STORED_BYTES).await?;
        let shown = full.clone();
        let plain = blocking(move || {
            modules::unpack(&full, &stored).map_err(|error| VmError::Image {
                message: format!("malformed module {shown}: {error}"),
                hint: None,
            })
        });
        let name = format!("edgewright-modules/{number}.ko");
        archive.file(&name, 0o600, &plain.await?);
        names.extend(["/", &name, "\n"]);
    }
    archive.folder("edgewright");
    archive.file(edgewright_guest::MODULES, 0o600, names.as_bytes());
    Ok(archive.finish())
}

/// Reads a root file system by erofs-utils, which need no mount.
struct Reader<'a> {
    root: &'a Path,
    context: &'a Context,
}

impl Reader<'_> {
    fn dump(&self, what: &str, path: &str) -> Command {
        let command = self.context.tools.command("dump.erofs").context(&self.context.processes);
        command.args([what, &format!("--path={path}")]).arg(self.root.as_os_str()).deadline(READING_TIMEOUT)
    }

    /// The names in a folder; none if it is missing.
    async fn list(&self, folder: &str) -> Result<Vec<String>, VmError> {
        let listed =
            self.dump("--ls", folder).run().await.map_err(VmError::command("read the image's files"))?;
        Ok(names(&listed.text()))
    }

    /// The bytes of a file; empty if it is missing: the tool does not say.
    async fn bytes(&self, path: &str, limit: usize) -> Result<Vec<u8>, VmError> {
        let read = self.dump("--cat", path).stdout_limit(limit).run().await;
        Ok(read.map_err(VmError::command("read the image's files"))?.stdout)
    }

    /// Copies a file, which must not be empty.
    async fn file(&self, path: &str, to: &Path) -> Result<(), VmError> {
        let target = to.to_owned();
        let file = blocking(move || File::create(&target).map_err(VmError::io("create", &target))).await?;
        self.dump("--cat", path)
            .run_to_file(file)
            .await
            .map_err(VmError::command("read the image's files"))?;
        let size = tokio::fs::metadata(to).await.map_err(VmError::io("read", to))?.len();
        if size == 0 {
            let message = format!("{path} is empty, or no regular file");
            return Err(VmError::image(
                message,
                "copy it there when the image is built: links are not followed",
            ));
        }
        Ok(())
    }
}

/// The names in a listing, after its header `NID TYPE FILENAME`.
fn names(listing: &str) -> Vec<String> {
    let mut lines = listing.lines().skip_while(|line| !line.trim_start().starts_with("NID TYPE"));
    lines.next();
    let name = |line: &str| {
        let rest = line.trim_start().split_once(char::is_whitespace)?.1.trim_start();
        let name = rest.split_once("  ").map_or(rest, |(_, name)| name);
        (!name.is_empty() && name != "." && name != "..").then(|| name.to_owned())
    };
    lines.filter_map(name).collect()
}

/// Compares versions: runs of digits by their value.
fn compare(a: &str, b: &str) -> Ordering {
    let (a, b) = (parts(a), parts(b));
    for (left, right) in a.iter().zip(&b) {
        let order = match (left.parse::<u64>(), right.parse::<u64>()) {
            (Ok(left), Ok(right)) => left.cmp(&right),
            _ => left.cmp(right),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
    a.len().cmp(&b.len())
}

fn parts(version: &str) -> Vec<String> {
    let mut parts: Vec<String> = Vec::new();
    let mut was_digit = None;
    for character in version.chars() {
        let is_digit = character.is_ascii_digit();
        match parts.last_mut().filter(|_| was_digit == Some(is_digit)) {
            Some(last) => last.push(character),
            None => parts.push(character.to_string()),
        }
        was_digit = Some(is_digit);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_is_the_last() {
        let mut versions =
            ["6.9.2-1", "6.12.117+deb13-cloud-amd64", "5.14.0-503.el9", "6.12.9+deb13-cloud-amd64", "6.12"];
        versions.sort_by(|a, b| compare(a, b));
        assert_eq!(
            versions,
            ["5.14.0-503.el9", "6.9.2-1", "6.12", "6.12.9+deb13-cloud-amd64", "6.12.117+deb13-cloud-amd64"]
        );
    }

    #[test]
    fn kernel_arguments_are_those_of_bootc() {
        assert_eq!(
            in_document("kargs = [\"a=b\", \"quiet\"]\nmatch-architectures = [\"x86_64\"]"),
            ["a=b", "quiet"]
        );
        assert!(in_document("kargs = [\"a\"]\nmatch-architectures = [\"aarch64\"]").is_empty());
        assert!(in_document("kargs = [\"a\\nb\"]").is_empty());
        assert!(in_document("kargs = 7").is_empty());
    }

    #[test]
    fn listings_are_read() {
        let listing = "Path : /usr/lib/modules\nSize: 65  On-disk size: 65  directory\n\
                       NID: 48   Links: 3   Layout: 2   Compression ratio: 100.00%\nUid: 0   Gid: 0\n\n       NID TYPE  FILENAME\n   \
                       2151021    2  .\n   1067904    2  ..\n   2160081    2  6.12.117+deb13\n   21    1  a b\n";
        assert_eq!(names(listing), ["6.12.117+deb13", "a b"]);
        assert!(names("<E> erofs: read inode failed").is_empty());
        assert!(names("").is_empty());
    }

    #[test]
    fn a_missing_kernel_is_named_with_its_path() {
        let error = no_kernel(&["6.1".to_owned()]);
        assert!(error.is_of_image() && error.hint().is_some());
        assert_eq!(error.to_string(), "the image has no kernel: /usr/lib/modules/6.1/vmlinuz is missing");
    }
}

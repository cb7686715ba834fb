//! The kernel modules that our initramfs needs: which ones, in which order, and their plain bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read as _};
use std::path::Path;

/// What must be there, built in or as modules: the disk, the file systems, the channel.
pub(crate) const NEEDED: [&str; 5] = ["virtio_pci", "virtio_blk", "virtio_console", "erofs", "overlay"];
/// What is loaded first where it is a module: others ask for it by names that no list has.
const WELCOME: [&str; 2] = ["crc32c_generic", "crc32c_intel"];
/// Maximum size of a module, in bytes.
const MAX_MODULE_BYTES: u64 = 64 * 1024 * 1024;

/// The modules of a kernel: `modules.dep` and `modules.builtin`.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    /// Path by name.
    paths: BTreeMap<String, String>,
    /// The paths that a path depends on.
    dependencies: BTreeMap<String, Vec<String>>,
    builtin: BTreeSet<String>,
    /// Whether the kernel has lists at all: one without modules has everything built in.
    has_lists: bool,
}

impl Modules {
    pub(crate) fn parse(dependencies: &str, builtin: &str) -> Self {
        let mut modules = Self { has_lists: !dependencies.is_empty(), ..Self::default() };
        for line in dependencies.lines() {
            let Some((path, rest)) = line.split_once(':') else { continue };
            modules.paths.insert(name(path), path.to_owned());
            let rest = rest.split_whitespace().map(str::to_owned).collect();
            modules.dependencies.insert(path.to_owned(), rest);
        }
        modules.builtin = builtin.lines().map(name).collect();
        modules
    }

    /// The paths to load, in order; or the names that are neither built in nor modules.
    pub(crate) fn order(&self) -> Result<Vec<String>, Vec<&'static str>> {
        let is_missing =
            |name: &&str| self.has_lists && !self.builtin.contains(*name) && !self.paths.contains_key(*name);
        let missing: Vec<&'static str> = NEEDED.into_iter().filter(is_missing).collect();
        if !missing.is_empty() {
            return Err(missing);
        }
        let mut order = Vec::new();
        for name in WELCOME.iter().chain(&NEEDED) {
            if let Some(path) = self.paths.get(*name) {
                self.add(path, &mut order, &mut BTreeSet::new());
            }
        }
        Ok(order)
    }

    /// Adds what a module depends on, then the module.
    fn add(&self, path: &str, order: &mut Vec<String>, above: &mut BTreeSet<String>) {
        // A list with a circle is malformed; it must not hang us.
        if order.iter().any(|known| known == path) || !above.insert(path.to_owned()) {
            return;
        }
        for dependency in self.dependencies.get(path).into_iter().flatten() {
            self.add(dependency, order, above);
        }
        order.push(path.to_owned());
    }
}

/// The name of a module by its path: `kernel/drivers/char/virtio-console.ko.xz` is `virtio_console`.
fn name(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or_default();
    file.split(".ko").next().unwrap_or_default().replace('-', "_")
}

/// The plain bytes of a module, by the suffix of its path.
pub(crate) fn unpack(path: &str, bytes: &[u8]) -> io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    let limit = MAX_MODULE_BYTES;
    match Path::new(path).extension().and_then(|kind| kind.to_str()) {
        Some("xz") => {
            lzma_rust2::XzReader::new(bytes, true).take(limit).read_to_end(&mut plain)?;
        }
        Some("zst") => {
            zstd::stream::read::Decoder::new(bytes)?.take(limit).read_to_end(&mut plain)?;
        }
        Some("gz") => {
            flate2::read::MultiGzDecoder::new(bytes).take(limit).read_to_end(&mut plain)?;
        }
        _ => plain.extend_from_slice(bytes),
    }
    if plain.starts_with(b"\x7fELF") { Ok(plain) } else { Err(io::Error::other("it is no module")) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    const DEPENDENCIES: &str = "\
kernel/fs/erofs/erofs.ko.xz: kernel/fs/netfs/netfs.ko.xz kernel/lib/libcrc32c.ko.xz
kernel/fs/netfs/netfs.ko.xz:
kernel/lib/libcrc32c.ko.xz:
kernel/fs/overlayfs/overlay.ko.xz:
kernel/drivers/block/virtio_blk.ko.xz:
kernel/crypto/crc32c-intel.ko.xz:
";
    const BUILTIN: &str = "kernel/drivers/virtio/virtio_pci.ko\nkernel/drivers/char/virtio_console.ko\n";

    #[test]
    fn dependencies_come_first_and_what_is_built_in_is_left_out() {
        let order = Modules::parse(DEPENDENCIES, BUILTIN).order().unwrap();
        let names: Vec<String> = order.iter().map(|path| name(path)).collect();
        assert_eq!(names, ["crc32c_intel", "virtio_blk", "netfs", "libcrc32c", "erofs", "overlay"]);
        assert_eq!(Modules::parse(DEPENDENCIES, "").order(), Err(vec!["virtio_pci", "virtio_console"]));
        // A kernel without modules.
        assert_eq!(Modules::parse("", "").order(), Ok(Vec::new()));
    }

    #[test]
    fn modules_are_unpacked_by_their_suffix() {
        let plain = b"\x7fELF module".to_vec();
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(&plain).unwrap();
        let gzip = gzip.finish().unwrap();
        let zstandard = zstd::encode_all(plain.as_slice(), 1).unwrap();
        // `printf '\177ELF module' | xz --check=crc32`
        let xz = XZ;
        for (path, bytes) in
            [("a.ko", plain.as_slice()), ("a.ko.gz", &gzip), ("a.ko.zst", &zstandard), ("a.ko.xz", xz)]
        {
            assert_eq!(unpack(path, bytes).unwrap(), plain, "{path}");
        }
        assert!(unpack("a.ko", b"text").is_err());
        assert!(unpack("a.ko.xz", b"text").is_err());
    }

    proptest! {
        #[test]
        fn no_list_hangs_or_panics(lines in proptest::collection::vec("[a-d/:. ]{0,12}", 0..30)) {
            let text = lines.join("\n").replace('a', "erofs").replace('b', "overlay.ko");
            let _ = Modules::parse(&text, "").order();
        }
    }

    const XZ: &[u8] = &[
        253, 55, 122, 88, 90, 0, 0, 1, 105, 34, 222, 54, 2, 0, 33, 1, 22, 0, 0, 0, 116, 47, 229, 163, 1, 0,
        10, 127, 69, 76, 70, 32, 109, 111, 100, 117, 108, 101, 0, 0, 83, 94, 193, 219, 0, 1, 31, 11, 61, 98,
        14, 122, 144, 66, 153, 13, 1, 0, 0, 0, 0, 1, 89, 90,
    ];
}

//! Disks of a virtual machine.

use std::path::Path;

/// A disk, and what becomes of what the machine writes to it.
#[derive(Debug, Clone, Copy)]
pub(super) enum Disk<'a> {
    /// It stays.
    Kept(&'a Path),
    /// It stays, and is logged in its order.
    Logged {
        /// The disk.
        disk: &'a Path,
        /// The log: an empty file.
        log: &'a Path,
    },
    /// It is gone with the machine.
    Forgotten(&'a Path),
    /// It stays; the file has another format than raw.
    Other {
        /// The file.
        path: &'a Path,
        /// Its format.
        format: &'a str,
    },
}

impl Disk<'_> {
    /// QEMU's arguments for this disk. Firmware tries disks in the order of their numbers.
    pub(super) fn arguments(&self, number: usize) -> Vec<String> {
        // Nothing survives the host anyway: a flush of the guest need not be one of the host.
        let drive = |format: &str, path: &Path| {
            let drive =
                format!("format={format},if=none,id=disk{number},cache=unsafe,file={}", escaped(path));
            vec!["-drive".to_owned(), drive]
        };
        let mut arguments = match self {
            Self::Kept(disk) => drive("raw", disk),
            Self::Other { path, format } => drive(format, path),
            Self::Forgotten(disk) => drive("raw,snapshot=on", disk),
            Self::Logged { disk, log } => {
                let file = |role: &str, path: &Path| {
                    format!("{role}.driver=file,{role}.cache.no-flush=on,{role}.filename={}", escaped(path))
                };
                let (file, log) = (file("file", disk), file("log", log));
                let node = format!("driver=blklogwrites,node-name=disk{number},{file},{log}");
                vec!["-blockdev".to_owned(), node]
            }
        };
        let device = format!("virtio-blk-pci,drive=disk{number},bootindex={number}");
        arguments.extend(["-device".to_owned(), device]);
        arguments
    }
}

/// A path in an argument of QEMU, where a comma ends it unless it is doubled.
fn escaped(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comma_in_a_path_ends_nothing() {
        let (disk, log) = (Path::new("/a,b"), Path::new("/l"));
        let lines = [Disk::Kept(disk), Disk::Forgotten(disk), Disk::Logged { disk, log }]
            .map(|disk| disk.arguments(1).join(" "));
        for line in &lines {
            assert!(line.contains("=/a,,b") && line.contains("drive=disk1"), "{line}");
        }
        assert!(lines[1].contains("snapshot=on") && lines[2].contains("log.filename=/l"), "{lines:?}");
    }
}

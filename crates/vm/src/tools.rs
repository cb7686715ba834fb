//! Where QEMU, its firmware and the disk tools come from: this system, which may be a sandbox made of a tool
//! image, or a tool image on the host.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use edgewright_process::{Command, which};

/// The QEMU of this processor.
pub(crate) const QEMU: &str = "qemu-system-x86_64";
/// Folders with programs below a root.
const FOLDERS: [&str; 2] = ["usr/bin", "usr/sbin"];

/// Programs and data for virtual machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tools {
    root: PathBuf,
    /// The loader and its arguments, where programs are not of this system.
    loader: Vec<OsString>,
}

impl Tools {
    /// Those of this system.
    pub fn here() -> Self {
        Self { root: PathBuf::from("/"), loader: Vec::new() }
    }

    /// Those of a tool image: its root, and the words before a program that start it on this host.
    pub const fn of_image(root: PathBuf, loader: Vec<OsString>) -> Self {
        Self { root, loader }
    }

    /// Whether QEMU is there.
    pub fn has_qemu(&self) -> bool {
        if self.is_here() { which(QEMU).is_some() } else { self.find(QEMU).is_file() }
    }

    /// A program by its name.
    pub fn command(&self, name: &str) -> Command {
        if self.is_here() {
            return Command::new(name);
        }
        let mut words = self.loader.clone();
        words.push(self.find(name).into());
        let program = words.remove(0);
        let command = Command::new(program).args(words);
        // libarchive is opened by name, and mtools reads character sets.
        command.env("GCONV_PATH", self.root.join("usr/lib/x86_64-linux-gnu/gconv"))
    }

    /// A file of the tools, such as firmware.
    pub fn file(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// Where QEMU finds its firmware; none: where it looks anyway.
    pub(crate) fn firmware(&self) -> Vec<PathBuf> {
        if self.is_here() {
            return Vec::new();
        }
        ["usr/share/qemu", "usr/share/seabios"].map(|folder| self.root.join(folder)).into()
    }

    fn is_here(&self) -> bool {
        self.loader.is_empty()
    }

    fn find(&self, name: &str) -> PathBuf {
        let places = FOLDERS.map(|folder| self.root.join(folder).join(name));
        let [first, second] = places;
        if !first.is_file() && second.is_file() { second } else { first }
    }

    /// The root of the tools.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

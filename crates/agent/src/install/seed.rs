//! Copies a folder of an image to the device: `/var`, at the first installation.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::InstallError;
use crate::composefs::etc_files::set_meta;
use crate::composefs::etc_merge::Kind;
use crate::composefs::store::Store;
use crate::composefs::tree::BootTree;

/// Copies. Devices, pipes and sockets are left out: services make theirs.
pub(super) fn write(store: &Store, tree: &BootTree, name: &str, to: &Path) -> Result<(), InstallError> {
    let nodes = tree.below(name).map_err(|problem| InstallError::Image { problem })?;
    for (path, node) in &nodes {
        let target = to.join(path);
        let fault = InstallError::io(format!("write {}", target.display()));
        let made: io::Result<()> = match &node.kind {
            Kind::Special(..) => continue,
            Kind::Directory => fs::create_dir(&target),
            Kind::Link(link) => std::os::unix::fs::symlink(OsStr::from_bytes(link), &target),
            Kind::File(_) => {
                let from = Path::new("/").join(name).join(path);
                let file = from.to_str().and_then(|path| tree.file(path));
                let mut file = store.open_file(file.ok_or_else(|| InstallError::Image {
                    problem: format!("cannot read its {}", from.display()),
                })?)?;
                File::create(&target).and_then(|mut copy| io::copy(&mut file, &mut copy)).map(|_| ())
            }
        };
        let is_link = matches!(node.kind, Kind::Link(_));
        made.and_then(|()| set_meta(&target, &node.meta, is_link)).map_err(fault)?;
    }
    Ok(())
}

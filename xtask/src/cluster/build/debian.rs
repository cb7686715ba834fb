//! Root file systems of Debian: the node's, and a small one for images of programs that need a shell.

use std::path::Path;

use anyhow::Context as _;

use super::image::{Archive, Image};
use crate::cluster::part;
use crate::cluster::version::SUITE;
use crate::command::Run;

/// What runs on the node beside Kubernetes.
pub(super) const NODE: &str = "busybox-static,ca-certificates,conntrack,containerd,containernetworking-plugins,\
                               etcd-server,iproute2,iptables,kmod,nftables,procps,runc";

/// The node's root, and busybox as an image: one that anyone may run, and Tekton's shell.
pub(super) fn make_node(folder: &Path) -> anyhow::Result<()> {
    let root = folder.join("root.tar.zst");
    bootstrap(NODE, &root)?;
    let mut archive = Archive::begin(&folder.join("image"))?;
    let busybox = folder.join("busybox");
    lay_busybox(&root, &busybox)?;
    let layers = [archive.layer(&busybox)?];
    archive.add(&Image { name: "localhost/busybox:1".to_owned(), ..Image::default() }, &layers)?;
    archive.add(
        &Image { name: "localhost/shell:1".to_owned(), user: "65532:65532", ..Image::default() },
        &layers,
    )?;
    part::remove(&busybox)?;
    archive.finish(&folder.join("images.tar"))
}

/// A minimal Debian with these packages, as a tar file.
pub(super) fn bootstrap(packages: &str, output: &Path) -> anyhow::Result<()> {
    println!("cluster: fetching Debian packages into {}", output.display());
    Run::new("mmdebstrap")
        .args(["--quiet", "--variant=minbase", &format!("--include={packages}"), SUITE])
        .arg(output)
        .run()
        .context("cannot make a root file system: is a Debian mirror reachable")
}

/// The files of busybox, from a root that has it: the program, and a link for each of its names.
pub(super) fn lay_busybox(root: &Path, folder: &Path) -> anyhow::Result<()> {
    const LINK: &str = r#"
cd "$1"
mkdir -p bin etc root tmp usr/bin
mv usr/bin/busybox bin/busybox
for name in $(bin/busybox --list); do [ "$name" = busybox ] || ln -s busybox "bin/$name"; done
ln -s /bin/env usr/bin/env
chmod 1777 tmp
echo 'root:x:0:0::/root:/bin/sh' >etc/passwd
echo 'root:x:0:' >etc/group
"#;
    std::fs::create_dir_all(folder)?;
    Run::new("tar")
        .args(["--extract", "--file"])
        .arg(root)
        .arg(format!("--directory={}", folder.display()))
        .arg("./usr/bin/busybox")
        .run()?;
    Run::new("sh").args(["-euc", LINK, "sh"]).arg(folder).run().context("cannot lay out busybox")
}

//! KubeVirt: its programs in images, and the manifests that its operator needs.

use std::path::Path;

use anyhow::Context as _;

use super::debian::{bootstrap, lay_busybox};
use super::go::{Build, Go};
use super::image::{Archive, Image, Layer};
use super::write;
use crate::cluster::part;
use crate::cluster::version::{KUBEVIRT, programs};
use crate::command::Run;

/// Programs in images of their own.
const SERVERS: [&str; 3] = ["virt-operator", "virt-api", "virt-controller"];
const HANDLER: [&str; 2] = ["virt-handler", "virt-chroot"];
const LAUNCHER: [&str; 5] =
    ["virt-launcher", "virt-launcher-monitor", "virt-probe", "virt-tail", "virt-freezer"];
/// What prints manifests.
const GENERATOR: &str = "resource-generator";
const MANIFESTS: [&[&str]; 3] = [
    &["--type", "kv"],
    &["--type", "priorityclass"],
    &["--type", "operator-rbac", "--namespace", "kubevirt"],
];

/// libvirt and QEMU, for the images that start machines.
const LAUNCHER_ROOT: &str = "acl,bash,busybox-static,iproute2,libvirt-clients,libvirt-daemon-driver-qemu,\
                             libvirt-daemon-driver-secret,libvirt-daemon-driver-storage,libvirt-daemon-log,\
                             nftables,procps,qemu-system-x86,qemu-utils,seabios,xorriso";
/// The last suite with the firmware whose names KubeVirt knows.
const SUITE_OF_FIRMWARE: &str = "bookworm";
const FIRMWARE: [&str; 2] = ["OVMF_CODE.fd", "OVMF_VARS.fd"];

/// Debian has one daemon where KubeVirt starts another: it gets that one's name and socket.
const VIRTQEMUD: &str = "#!/bin/sh
mkdir -p /var/run/libvirt
ln -sfn libvirt-sock /var/run/libvirt/virtqemud-sock
exec /usr/sbin/libvirtd \"$@\"
";
/// KubeVirt's users, and those that Debian's libvirt looks up.
const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash
qemu:x:107:107:qemu:/home/qemu:/bin/bash
kubevirt:x:1001:1001:kubevirt:/tmp:/bin/sh
libvirt-qemu:x:64055:107::/var/lib/libvirt:/usr/sbin/nologin
tss:x:110:110::/var/lib/tpm:/bin/false
";
const GROUP: &str = "root:x:0:
qemu:x:107:
kubevirt:x:1001:
kvm:x:36:qemu
libvirt-qemu:x:64055:
libvirt:x:111:
tss:x:110:
";

/// Fills the folder: `images.tar`, `kubevirt.yaml`.
pub(super) fn make(go: &Go, folder: &Path) -> anyhow::Result<()> {
    let built = folder.join("built");
    std::fs::create_dir_all(&built)?;
    build(go, &built)?;
    let mut manifests = String::new();
    for arguments in MANIFESTS {
        manifests += "---\n";
        manifests += &Run::new(built.join(GENERATOR)).args(arguments).output()?;
    }
    std::fs::write(folder.join("kubevirt.yaml"), manifests)?;
    let root = folder.join("root.tar");
    bootstrap(LAUNCHER_ROOT, &root)?;
    let busybox = folder.join("busybox");
    // Not compressed, so that it is a layer as it is.
    lay_busybox(&root, &busybox)?;
    let mut archive = Archive::begin(&folder.join("image"))?;
    add_machine(&mut archive, folder, &busybox)?;
    let root = archive.layer_of_tar(&root)?;
    add_servers(&mut archive, folder, &built, &root)?;
    let source = go.module(&format!("kubevirt.io/kubevirt@v{KUBEVIRT}/cmd"));
    add_handler(&mut archive, folder, &built, &source, &root)?;
    add_launcher(&mut archive, folder, &built, &source, &root)?;
    archive.finish(&folder.join("images.tar"))?;
    part::remove(&busybox)?;
    part::remove(&built)
}

fn build(go: &Go, built: &Path) -> anyhow::Result<()> {
    let names = SERVERS.iter().chain(&HANDLER).chain(&LAUNCHER);
    let mut packages: Vec<String> = names.map(|name| format!("kubevirt.io/kubevirt/cmd/{name}")).collect();
    packages.push(format!("kubevirt.io/kubevirt/tools/{GENERATOR}"));
    go.build(&Build {
        what: "KubeVirt",
        module: &programs("kubevirt"),
        packages: &packages.iter().map(String::as_str).collect::<Vec<_>>(),
        output: format!("{}/", built.display()),
        // libvirt is loaded when it is used: nothing of it is needed here.
        flags: &["-tags", "libvirt_dlopen"],
        link: String::new(),
        // All with C code, or everything above `net` is compiled twice.
        has_c: true,
    })
}

fn name(program: &str) -> String {
    format!("localhost/kubevirt/{program}:v{KUBEVIRT}")
}

/// On the launcher's root, which is there anyway: all programs are linked to the C library.
fn add_servers(archive: &mut Archive, folder: &Path, built: &Path, root: &Layer) -> anyhow::Result<()> {
    for server in SERVERS {
        let layout = folder.join("layout");
        lay_programs(built, &layout, &[server])?;
        let layers = [root.clone(), archive.layer(&layout)?];
        let entrypoint = format!("/usr/bin/{server}");
        archive.add(&Image { name: name(server), entrypoint: Some(&entrypoint), user: "1001" }, &layers)?;
        part::remove(&layout)?;
    }
    Ok(())
}

fn add_handler(
    archive: &mut Archive,
    folder: &Path,
    built: &Path,
    source: &Path,
    root: &Layer,
) -> anyhow::Result<()> {
    let layout = folder.join("layout");
    lay_programs(built, &layout, &HANDLER)?;
    std::fs::copy(source.join("virt-handler/nsswitch.conf"), layout.join("etc/nsswitch.conf"))?;
    let layers = [root.clone(), archive.layer(&layout)?];
    let image = Image { name: name("virt-handler"), entrypoint: Some("/usr/bin/virt-handler"), user: "" };
    archive.add(&image, &layers)?;
    part::remove(&layout)
}

fn add_launcher(
    archive: &mut Archive,
    folder: &Path,
    built: &Path,
    source: &Path,
    root: &Layer,
) -> anyhow::Result<()> {
    let layout = folder.join("layout");
    lay_programs(built, &layout, &LAUNCHER)?;
    write(&layout, "usr/sbin/virtqemud", VIRTQEMUD)?;
    for empty in ["etc/libvirt/hooks", "home/qemu", "usr/share/OVMF", "var"] {
        std::fs::create_dir_all(layout.join(empty))?;
    }
    let files = source.join("virt-launcher");
    for (from, to, mode) in [
        ("node-labeller/node-labeller.sh", "usr/bin/node-labeller.sh", "755"),
        ("qemu.conf", "etc/libvirt/qemu.conf", "644"),
        ("virtqemud.conf", "etc/libvirt/virtqemud.conf", "644"),
        ("qemu", "etc/libvirt/hooks/qemu", "755"),
        ("nsswitch.conf", "etc/nsswitch.conf", "644"),
    ] {
        Run::new("install").args(["-m", mode]).arg(files.join(from)).arg(layout.join(to)).run()?;
    }
    Run::new("chmod").arg("755").arg(layout.join("usr/sbin/virtqemud")).run()?;
    // Relative: where this root is mounted elsewhere, an absolute one leads out of it.
    std::os::unix::fs::symlink("../run", layout.join("var/run"))?;
    Run::new("gcc")
        .args(["-O2", "-static", "-o"])
        .arg(layout.join("usr/bin/container-disk"))
        .arg(source.join("container-disk-v2alpha/main.c"))
        .run()
        .context("cannot compile container-disk")?;
    lay_firmware(folder, &layout)?;
    // Without it, the kernel does not let an unprivileged pod start the launcher.
    Run::as_root("setcap")?
        .arg("cap_net_bind_service+ep")
        .arg(layout.join("usr/bin/virt-launcher-monitor"))
        .run()
        .context("cannot set a file capability")?;
    let layers = [root.clone(), archive.layer(&layout)?];
    let image = Image { name: name("virt-launcher"), entrypoint: Some("/usr/bin/virt-launcher"), user: "" };
    archive.add(&image, &layers)?;
    part::remove(&layout)
}

/// Programs, and the users that they may be started as.
fn lay_programs(built: &Path, layout: &Path, names: &[&str]) -> anyhow::Result<()> {
    std::fs::create_dir_all(layout.join("usr/bin"))?;
    for name in names {
        std::fs::rename(built.join(name), layout.join("usr/bin").join(name))?;
    }
    write(layout, "etc/passwd", PASSWD)?;
    write(layout, "etc/group", GROUP)
}

fn lay_firmware(folder: &Path, layout: &Path) -> anyhow::Result<()> {
    let root = folder.join("firmware");
    extract("ovmf", SUITE_OF_FIRMWARE, &root)?;
    for file in FIRMWARE {
        std::fs::copy(root.join("usr/share/OVMF").join(file), layout.join("usr/share/OVMF").join(file))?;
    }
    part::remove(&root)
}

/// The files of packages and of what they need; nothing is configured.
fn extract(packages: &str, suite: &str, output: &Path) -> anyhow::Result<()> {
    Run::new("mmdebstrap")
        .args(["--quiet", "--variant=extract", &format!("--include={packages}"), suite])
        .arg(output)
        .run()
        .with_context(|| format!("cannot fetch {packages} from Debian {suite}"))
}

/// A machine to try KubeVirt with, as an image: Debian's kernel, and busybox as its whole system.
fn add_machine(archive: &mut Archive, folder: &Path, busybox: &Path) -> anyhow::Result<()> {
    const INIT: &str = "#!/bin/sh
mount -t devtmpfs devtmpfs /dev
mount -t proc proc /proc
echo \"GUEST-UP $(uname -r)\" >/dev/ttyS0
poweroff -f
";
    const PACK: &str = r#"
cp --recursive --no-dereference "$1" "$2/initrd"
cd "$2/initrd"
mkdir -p dev proc
mv ../init init
chmod 755 init
find . | bin/busybox cpio -o -H newc | gzip -1 >../layout/boot/initrd.gz
cp ../debian/boot/vmlinuz-* ../layout/boot/vmlinuz
rm -r ../initrd
"#;
    let layout = folder.join("layout");
    std::fs::create_dir_all(layout.join("boot"))?;
    extract("linux-image-cloud-amd64", crate::cluster::version::SUITE, &folder.join("debian"))?;
    std::fs::write(folder.join("init"), INIT)?;
    Run::new("sh")
        .args(["-euc", PACK, "sh"])
        .arg(busybox)
        .arg(folder)
        .run()
        .context("cannot make the machine to try KubeVirt with")?;
    let layer = archive.layer(&layout)?;
    archive.add(&Image { name: "localhost/machine:1".to_owned(), ..Image::default() }, &[layer])?;
    part::remove(&folder.join("debian"))?;
    part::remove(&layout)
}

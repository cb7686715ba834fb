//! What the installers have in common that start the image itself: from a stick, or over the network.

use std::path::PathBuf;

use edgewright_vm::CachedImage;

use crate::ProvisionError;

/// No update and no check has a meaning here. What the installer prints is seen on the console.
const ARGUMENTS: &str = "rootfstype=erofs ro rootwait systemd.volatile=overlay rd.shell=0 panic=60 \
    systemd.mask=edgewright-agent.service systemd.mask=edgewright-boot-deadline.timer \
    systemd.run_success_action=poweroff systemd.run_failure_action=none \
    \"systemd.run=/usr/bin/edgewright-agent install --medium\"";

/// Kernel arguments: the image's own, and those of the installer.
pub(crate) fn arguments(of_image: &[String], root: &str) -> String {
    let own = of_image.iter().filter(|word| !word.starts_with("root="));
    let all: Vec<&str> = own.map(String::as_str).collect();
    format!("{} root={root} {ARGUMENTS}", all.join(" ")).trim_start().to_owned()
}

/// The image's own initramfs.
///
/// # Errors
/// It has none.
pub(crate) fn initramfs(image: &CachedImage) -> Result<PathBuf, ProvisionError> {
    image.initramfs().ok_or_else(|| {
        let version = &image.facts.kernel.version;
        ProvisionError::NoInitramfs(format!("/usr/lib/modules/{version}/initramfs.img"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_of_the_image_come_first_without_its_root() {
        let own = ["root=/dev/sda1".to_owned(), "console=ttyS0".to_owned()];
        let all = arguments(&own, "/dev/loop0");
        assert!(all.starts_with("console=ttyS0 root=/dev/loop0 rootfstype=erofs "), "{all}");
        assert!(arguments(&[], "x").starts_with("root=x "));
    }
}

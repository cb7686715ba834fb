#!/bin/bash
# Mounts the root file system of a deployment (edgewright-setup-root).

check() {
    require_binaries /usr/lib/edgewright/edgewright-setup-root || return 1
    return 0
}

depends() {
    echo systemd-initrd
}

installkernel() {
    # The device's own file system, the image, and what /etc and /var are mounted with.
    hostonly='' instmods erofs overlay ext4 loop efivarfs
    # The EFI system partition is mounted later, by the agent; drivers of disks come with kernel-modules.
    hostonly='' instmods =drivers/block/virtio_blk virtio_pci virtio_scsi nvme ahci sd_mod usb_storage uas
}

install() {
    inst_binary /usr/lib/edgewright/edgewright-setup-root
    inst_simple "$moddir/edgewright-setup-root.service" \
        "$systemdsystemunitdir/edgewright-setup-root.service"
    $SYSTEMCTL -q --root "$initdir" add-wants initrd-root-fs.target edgewright-setup-root.service
}

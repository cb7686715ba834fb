#!/usr/bin/env bash
# What a careful engineer would script by hand: a root file system in a tar → its kernel under QEMU, until multi-user. The rival of
# `cargo xtask bench vm`: an ext4 disk and the image's own initramfs, as no initramfs of one's own is at hand.
#   baseline.sh TAR TOOLS        TOOLS: the root of the tool image, whose programs are started by its loader
# Prints: seconds to make the disk, seconds from QEMU's start to multi-user.
set -euo pipefail
tar=$1 root=$2
work=$(mktemp -d); qemu=; trap '[ -z "$qemu" ] || kill "$qemu" 2>/dev/null || true; rm -rf "$work"' EXIT
# In place of this shell: as a background job it is the process that is killed.
replace() { exec "$root/lib64/ld-linux-x86-64.so.2" --library-path "$root/usr/lib/x86_64-linux-gnu:$root/usr/lib" "$@"; }
tool() { (replace "$@"); }
now() { date +%s.%N; }
tar -C "$work" -xf "$tar" --wildcards './usr/lib/modules/*/vmlinuz' './usr/lib/modules/*/initramfs.img'
kernel=$(echo "$work"/usr/lib/modules/*/vmlinuz)
began=$(now)
truncate -s 2G "$work/disk"
tool "$root/usr/sbin/mkfs.ext4" -q -F -d "$tar" "$work/disk"
made=$(now)
unit=$(printf '[Unit]\nAfter=multi-user.target\n[Service]\nType=exec\nExecStart=/bin/sh -c "echo HAND-MADE-DONE >/dev/ttyS1"\n' | base64 -w0)
wants=$(printf '[Unit]\nWants=done.service\n' | base64 -w0)
replace "$root/usr/bin/qemu-system-x86_64" -L "$root/usr/share/qemu" -L "$root/usr/share/seabios" -nodefaults -display none \
  -machine q35 -accel tcg,thread=multi -cpu max -smp 2 -m 1024 -no-reboot -kernel "$kernel" -initrd "${kernel%vmlinuz}initramfs.img" \
  -append 'console=ttyS0 root=/dev/vda rw quiet panic=-1 mitigations=off audit=0 init_on_alloc=0 cryptomgr.notests rcupdate.rcu_expedited=1 random.trust_cpu=on tsc=reliable no_timer_check systemd.show_status=no systemd.condition_needs_update=no' \
  -smbios "type=11,value=io.systemd.credential.binary:systemd.extra-unit.done.service=$unit" \
  -smbios "type=11,value=io.systemd.credential.binary:systemd.unit-dropin.multi-user.target~x=$wants" \
  -drive "file=$work/disk,if=virtio,format=raw,cache=unsafe" -serial "file:$work/console" -serial "file:$work/result" &
qemu=$!
for _ in $(seq 3000); do
  if grep -q HAND-MADE-DONE "$work/result" 2>/dev/null; then
    echo "$(echo "$made - $began" | bc) $(echo "$(now) - $made" | bc)"
    exit 0
  fi
  kill -0 "$qemu" 2>/dev/null || break
  sleep 0.1
done
echo "it does not reach multi-user: $(tail -c 2000 "$work/console")" >&2
exit 1

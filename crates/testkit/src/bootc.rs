//! A device whose `bootc` and `reboot` are shell scripts that behave as the manual pages describe.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// What both scripts begin with. The whole disk of the device is the one line of the file `disk`, which is
/// replaced in one piece: these scripts die with the agent, and what they do survives a power cut.
const DISK: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
exec 9> lock
flock 9
read -r booted rollback staged locked queued reboots < disk
save() { echo "$booted $rollback $staged $locked $queued $reboots" > disk.new && mv disk.new disk; }
"#;

const BOOTC: &str = r#"
echo "$*" >> calls
entry() {
  [ "$1" != - ] || { printf null; return; }
  printf '{"image":{"image":{"image":"IMAGE","transport":"registry"},"imageDigest":"%s"},"downloadOnly":%s}' "$1" "$2"
}
case "$1 $2" in
  "status --json")
    printf '{"kind":"BootcHost","status":{"staged":%s,"booted":%s,"rollback":%s,"rollbackQueued":%s}}' \
      "$(entry "$staged" "$locked")" "$(entry "$booted" false)" "$(entry "$rollback" false)" "$queued" ;;
  "switch --download-only") staged=${4##*@} locked=true; save ;;
  "upgrade --from-downloaded") locked=false; save ;;
  "rollback ") queued=true; save ;;
  *) echo "unknown: $*" >&2; exit 2 ;;
esac
"#;

/// What the machine does when it goes down: the staged image, or the one that was queued, becomes the booted
/// one.
const REBOOT: &str = r#"
if [ "$queued" = true ]; then
  last=$booted booted=$rollback rollback=$last queued=false
elif [ "$staged" != - ] && [ "$locked" = false ]; then
  rollback=$booted booted=$staged staged=-
fi
reboots=$((reboots + 1))
save
"#;

/// A folder with `bootc`, `reboot` and the disk.
#[derive(Debug, Clone)]
pub struct BootcDevice(PathBuf);

/// The disk of a device: its words.
#[derive(Debug, PartialEq, Eq)]
pub struct Disk {
    /// The digest that runs; `-` for one that bootc does not know.
    pub booted: String,
    /// Whether the staged image waits for `--from-downloaded`.
    pub is_locked: bool,
    /// How often the device went down.
    pub reboots: usize,
}

impl BootcDevice {
    /// Writes the scripts for a device that follows an image, and runs a digest of it.
    ///
    /// # Panics
    /// If the folder cannot be written.
    #[must_use]
    pub fn new(folder: &Path, image: &str, booted: &str) -> Self {
        let device = Self(folder.to_owned());
        for (path, text) in [(device.bootc(), BOOTC), (device.reboot(), REBOOT)] {
            let script = format!("{DISK}{}", text.replace("IMAGE", image));
            std::fs::write(&path, script).expect("a script");
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("its mode");
        }
        device.set_booted(booted);
        device
    }

    /// The program that is used as `bootc`.
    #[must_use]
    pub fn bootc(&self) -> PathBuf {
        self.0.join("bootc")
    }

    /// The program that reboots the device.
    #[must_use]
    pub fn reboot(&self) -> PathBuf {
        self.0.join("reboot")
    }

    /// A disk with one image; `-` for one that bootc does not know.
    ///
    /// # Panics
    /// If the disk cannot be written.
    pub fn set_booted(&self, booted: &str) {
        std::fs::write(self.0.join("disk"), format!("{booted} - - false false 0\n")).expect("a disk");
    }

    /// What is on the disk now.
    ///
    /// # Panics
    /// If the disk is damaged.
    #[must_use]
    pub fn disk(&self) -> Disk {
        let text = std::fs::read_to_string(self.0.join("disk")).unwrap_or_default();
        let words: Vec<&str> = text.split_whitespace().collect();
        let [booted, _, _, locked, _, reboots] = words[..] else { panic!("a damaged disk: {text}") };
        let reboots = reboots.parse().expect("a number");
        Disk { booted: booted.to_owned(), is_locked: locked == "true", reboots }
    }
}

//! What a device is given when it is installed: its agent follows an address of its own loopback, and it
//! starts the programs of the host from their own disk. It is the same for all lanes of a host, so that
//! installed disks can be kept.

use std::collections::BTreeMap;

use edgewright_guest::{CHECKS, DEVICE_CHECKS, FOLDER, GUEST, PROGRAMS_DISK, PROGRAMS_FOLDER};
use edgewright_vm::config::device_arguments;
use serde::Serialize;

/// Where devices ask for updates: on their own loopback, which the channel forwards. Other ports are more
/// likely to be used by the image.
pub(super) const ADDRESS: &str = "127.0.0.1:47113";
/// The repository and the tag that devices follow.
pub(super) const REPOSITORY: &str = "lane/device";
pub(super) const TAG: &str = "next";
/// The version of what is given to devices: another one makes disks again.
pub(super) const VERSION: u32 = 1;
/// How often a boot is tried. The first failure decides: what is tested is that it comes back, not how late.
const BOOT_TRIES: u32 = 1;
/// The factor on the time limits of health checks: the most that a lane's own limits are multiplied by.
const HEALTH_SCALE: u32 = 40;
/// Where the processor is emulated on a busy host, a unit or a disk that is late is not a bad image.
const PATIENCE: [&str; 2] =
    ["systemd.default_timeout_start_sec=10min", "systemd.default_device_timeout_sec=10min"];
/// Where no host sees a panic, the device must start again by itself, as one in the field.
const RESTARTS: &str = "panic=10";
/// What the service starts.
const START: &str = "/etc/edgewright-lane/start";
const SERVICE: &str = "edgewright-guest.service";

/// The settings of a device, as the installer of the agent reads them.
#[derive(Debug, Serialize)]
struct Settings {
    hostname: &'static str,
    files: BTreeMap<String, File>,
    kernel_arguments: Vec<String>,
    boot_tries: u32,
}

#[derive(Debug, Serialize)]
struct File {
    text: String,
    mode: u32,
}

/// Who leads a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Led {
    /// The host, over the channel.
    ByHost,
    /// The check runner in it, where there is no channel.
    ByItself,
}

/// The reference that devices follow.
pub(super) fn reference() -> String {
    format!("{ADDRESS}/{REPOSITORY}:{TAG}")
}

/// The settings as JSON.
pub(super) fn settings(led: Led) -> Vec<u8> {
    let readable = |text: String| File { text, mode: 0o644 };
    let unit = |name: &str| format!("/etc/systemd/system/{name}");
    let files = BTreeMap::from([
        ("/etc/edgewright/agent.toml".to_owned(), File { text: agent(), mode: 0o600 }),
        (START.to_owned(), readable(start(led))),
        (unit(SERVICE), readable(service(led))),
        // Programs must be there even if a boot does not come to its end.
        (unit("sysinit.target.d/50-edgewright-guest.conf"), readable(format!("[Unit]\nWants={SERVICE}\n"))),
    ]);
    let mut kernel_arguments = device_arguments();
    kernel_arguments.extend(PATIENCE.map(str::to_owned));
    if led == Led::ByItself {
        kernel_arguments.push(RESTARTS.to_owned());
    }
    let settings = Settings { hostname: "edgewright-lane", files, kernel_arguments, boot_tries: BOOT_TRIES };
    // A plain struct of strings and numbers always serialises.
    serde_json::to_vec(&settings).unwrap_or_default()
}

/// The agent takes an update when the lane asks it to, not by itself.
fn agent() -> String {
    format!(
        "image = \"{}\"\nregistry = \"http://{ADDRESS}\"\ninterval = \"24h\"\njitter = \"0\"\n\
         [health]\nwithin = \"15m\"\nscale = {HEALTH_SCALE}.0\n",
        reference()
    )
}

/// Copies the programs from their disk, which is found without udev, and becomes what leads the device. The
/// agent has files in the same folder. The disk stays mounted for one that leads itself: the offer is on it.
fn start(led: Led) -> String {
    let (leave, becomes) = match led {
        Led::ByHost => ("umount $from", "agent".to_owned()),
        Led::ByItself => ("break", format!("checks {DEVICE_CHECKS}")),
    };
    format!(
        "from={PROGRAMS_FOLDER}\nmkdir -p {FOLDER} $from\nuntil [ -x {FOLDER}/{GUEST} ]; do\n    \
         for block in /sys/block/*; do\n        \
         [ \"$(cat \"$block/serial\" 2>/dev/null)\" = {PROGRAMS_DISK} ] || continue\n        \
         mount -t erofs -o ro \"/dev/${{block##*/}}\" $from || continue\n        \
         cp $from/{CHECKS} {FOLDER}/{CHECKS} && cp $from/{GUEST} {FOLDER}/{GUEST}.new \
         && mv {FOLDER}/{GUEST}.new {FOLDER}/{GUEST}\n        {leave}\n    done\n    \
         [ -x {FOLDER}/{GUEST} ] || sleep 1\ndone\nexec {FOLDER}/{GUEST} {becomes}\n"
    )
}

fn service(led: Led) -> String {
    // What leads itself ends once the way is over, and writes why it cannot continue.
    let restart = match led {
        Led::ByHost => "Restart=always\nRestartSec=1\n",
        Led::ByItself => "",
    };
    format!(
        "[Unit]\nDescription=Edgewright's channel to the host\nDefaultDependencies=no\nConflicts=shutdown.target\n\
         Before=shutdown.target\n[Service]\nExecStart=/bin/sh {START}\n{restart}OOMScoreAdjust=-900\n\
         KillMode=process\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_follows_the_lane_and_starts_its_programs() {
        let settings: serde_json::Value = serde_json::from_slice(&settings(Led::ByHost)).unwrap();
        let text = |path: &str| settings["files"][path]["text"].as_str().unwrap().to_owned();
        assert!(text("/etc/edgewright/agent.toml").contains("image = \"127.0.0.1:47113/lane/device:next\""));
        assert!(text(START).ends_with("exec /run/edgewright/edgewright-guest agent\n"));
        assert!(text("/etc/systemd/system/edgewright-guest.service").contains(START));
        let words = settings["kernel_arguments"].as_array().unwrap();
        assert!(words.iter().any(|word| word == "console=ttyS0"), "{words:?}");
        assert!(words.iter().all(|word| !word.as_str().unwrap().starts_with("panic=")), "{words:?}");
    }

    #[test]
    fn a_device_without_a_channel_leads_itself_and_survives_a_panic() {
        let settings: serde_json::Value = serde_json::from_slice(&settings(Led::ByItself)).unwrap();
        let text = |path: &str| settings["files"][path]["text"].as_str().unwrap().to_owned();
        assert!(text(START).ends_with("exec /run/edgewright/edgewright-guest checks device-checks\n"));
        assert!(!text(START).contains("umount"), "the offer is on the disk");
        assert!(!text("/etc/systemd/system/edgewright-guest.service").contains("Restart="));
        assert!(settings["kernel_arguments"].as_array().unwrap().iter().any(|word| word == RESTARTS));
    }
}

//! What runs before an image's own initramfs: it leaves programs and the agent's unit in `/run`, which
//! initramfs and system keep, and becomes the first process of that initramfs.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, ExitCode};

use crate::boot::{bring_programs, complain};
use crate::{FATAL, FOLDER, GUEST, MACHINE_CHECKS, STARTING};

const UNIT: &str = "edgewright-guest.service";
const UNITS: &str = "/run/systemd/system";
/// The targets that may start the agent: the first that is reached does.
const WANTED_BY: [&str; 2] = ["sysinit.target", "basic.target"];

/// Starts the image's initramfs; returns only if it cannot. `by_order`: the machine has no channel, and
/// finds its order on a disk.
pub fn entry(by_order: bool) -> ExitCode {
    if by_order {
        complain(STARTING);
    }
    let left = bring_programs(Path::new("/"))
        .map_err(|(step, error)| format!("{step}: {error}"))
        .and_then(|()| leave_unit(by_order).map_err(|error| format!("write the agent's unit: {error}")));
    if let Err(reason) = left {
        // The initramfs is tested all the same.
        complain(&format!("edgewright-guest: the host is not reached: {reason}"));
    }
    #[expect(clippy::disallowed_methods, reason = "it replaces this process")]
    let error = Command::new("/init").env_clear().envs([("HOME", "/"), ("TERM", "linux")]).exec();
    complain(&format!("{FATAL}/init of its initramfs: {error}"));
    ExitCode::FAILURE
}

/// The agent, or the check runner, as a unit of the system, not of the initramfs.
fn leave_unit(by_order: bool) -> std::io::Result<()> {
    let service = if by_order {
        format!("ExecStart={FOLDER}/{GUEST} checks {MACHINE_CHECKS}\n")
    } else {
        format!("ExecStart={FOLDER}/{GUEST} agent\nRestart=always\nRestartSec=1\nOOMScoreAdjust=-900\n")
    };
    let unit = format!(
        "[Unit]\nDescription=Edgewright's channel to the host\nDefaultDependencies=no\n\
         ConditionPathExists=!/etc/initrd-release\nConflicts=shutdown.target\nBefore=shutdown.target\n\
         [Service]\n{service}KillMode=process\n"
    );
    fs::create_dir_all(UNITS)?;
    fs::write(Path::new(UNITS).join(UNIT), unit)?;
    for target in WANTED_BY {
        let wants = Path::new(UNITS).join(format!("{target}.wants"));
        fs::create_dir_all(&wants)?;
        std::os::unix::fs::symlink(format!("../{UNIT}"), wants.join(UNIT))?;
    }
    Ok(())
}

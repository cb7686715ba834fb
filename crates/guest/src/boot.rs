//! The first process of our initramfs: loads modules, puts a memory overlay over the read-only root, starts
//! the agent, and becomes the image's init.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::mount::{MountFlags, mount, mount_move};

use crate::order::{self, MAX_DISK_BYTES, ORDER_ARGUMENT, ORDER_DISK, ORDER_FILE};
use crate::{
    CHECKS, DEVICE_CHECKS, FATAL, FOLDER, GUEST, INITRD_FOLDER, MACHINE_CHECKS, MODULES, PROGRAMS_FOLDER,
    ROOT_DISK, STARTING, STATE_DISK,
};

/// How long to wait for the disk with the root: an emulated processor is slow.
const DISK_TIMEOUT: Duration = Duration::from_mins(1);
/// The pause between two looks for the disk.
const PAUSE: Duration = Duration::from_millis(5);
/// The inits of images, as the kernel itself tries them.
const INITS: [&str; 5] =
    ["/sbin/init", "/usr/lib/systemd/systemd", "/lib/systemd/systemd", "/etc/init", "/bin/init"];
/// Where the new root is put together.
const ROOT: &str = "/newroot";

/// Why the image cannot be started: a step, and the system's reason.
type Fault = (String, io::Error);

/// Starts the image; returns only if it cannot.
pub fn boot() -> ExitCode {
    let (step, error) = match start() {
        Ok(never) => never,
        Err(fault) => fault,
    };
    complain(&format!("{FATAL}{step}: {error}"));
    // Nothing below a first process can report a failure: end the machine.
    let _ = rustix::system::reboot(rustix::system::RebootCommand::Restart);
    ExitCode::FAILURE
}

fn start() -> Result<Fault, Fault> {
    for (kind, path) in [("devtmpfs", "/dev"), ("proc", "/proc"), ("sysfs", "/sys")] {
        folder(Path::new(path))?;
        attach(kind, path, kind, MountFlags::empty(), "")?;
    }
    load_modules();
    overlay(&disk(ROOT_DISK)?)?;
    bring_programs(Path::new(ROOT))?;
    enter()?;
    let arguments = fs::read_to_string("/proc/cmdline").unwrap_or_default();
    if arguments.split_whitespace().any(|word| word == ORDER_ARGUMENT) {
        complain(STARTING);
        start_checks()?;
    } else {
        start_beside(GUEST, &["agent".to_owned()])?;
    }
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for init in INITS {
        // Returns only if it fails.
        #[expect(clippy::disallowed_methods, reason = "it replaces this process")]
        let error = Command::new(init).env_clear().envs(environment()).exec();
        if error.kind() != io::ErrorKind::NotFound {
            last = error;
            break;
        }
    }
    Ok((format!("none of {} can be started", INITS.join(", ")), last))
}

/// Starts the check runner with the order of the disk; its results go to the console.
fn start_checks() -> Result<(), Fault> {
    let [settling, boot] = write_order()?;
    start_beside(CHECKS, &[MACHINE_CHECKS.to_owned(), ORDER_FILE.to_owned(), settling, boot])
}

/// Becomes the check runner in a mode, with the order of the disk; returns only if it cannot.
pub fn checks(mode: Option<&str>) -> ExitCode {
    let mode = mode.unwrap_or(MACHINE_CHECKS);
    let is_device = mode == DEVICE_CHECKS;
    if is_device {
        // Twice: the kernel may write into a line, and without it the results of this boot are not read.
        complain(STARTING);
        complain(STARTING);
    }
    let state = || if is_device { disk(STATE_DISK).map(Some) } else { Ok(None) };
    let (step, error) = match write_order().and_then(|limits| Ok((limits, state()?))) {
        Ok(([settling, boot], state)) => {
            #[expect(clippy::disallowed_methods, reason = "it replaces this process")]
            let mut runner = Command::new(Path::new(FOLDER).join(CHECKS));
            runner.args([mode, ORDER_FILE, &settling, &boot]);
            if let Some(state) = state {
                runner.arg(state).arg(PROGRAMS_FOLDER);
            }
            ("start the check runner".to_owned(), runner.exec())
        }
        Err(fault) => fault,
    };
    complain(&format!("{FATAL}{step}: {error}"));
    ExitCode::FAILURE
}

/// Writes the order of the disk to a file; gives the limits of the boot in seconds.
fn write_order() -> Result<[String; 2], Fault> {
    let device = disk(ORDER_DISK)?;
    let mut bytes = Vec::new();
    let read = fs::File::open(&device).and_then(|file| file.take(MAX_DISK_BYTES).read_to_end(&mut bytes));
    read.map_err(|error| ("read the order's disk".to_owned(), error))?;
    let missing = || ("find the order".to_owned(), io::Error::other("its disk has none"));
    let (order, limits) = order::find(&bytes).ok_or_else(missing)?;
    fs::write(ORDER_FILE, order).map_err(|error| ("write the order".to_owned(), error))?;
    Ok([limits.settling, limits.boot].map(|limit| limit.as_secs().to_string()))
}

/// Starts one of our programs, which lives beside the image's init.
fn start_beside(program: &str, words: &[String]) -> Result<(), Fault> {
    // A leading `@` protects a process from systemd, as for other programs of an initramfs.
    #[expect(
        clippy::disallowed_methods,
        reason = "the guest has no async runtime; it lives as long as the guest"
    )]
    let started =
        Command::new(Path::new(FOLDER).join(program)).arg0(format!("@{program}")).args(words).spawn();
    started.map(drop).map_err(|error| (format!("start {program}"), error))
}

fn environment() -> [(&'static str, &'static str); 3] {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/"),
        ("TERM", "linux"),
    ]
}

/// Loads what the host chose, in its order. A module that is missing shows when what it is for fails.
fn load_modules() {
    let list = fs::read_to_string(MODULES).unwrap_or_default();
    for path in list.lines() {
        let loaded = fs::read(path).map_err(|error| error.to_string()).and_then(|module| {
            match rustix::system::init_module(&module, c"") {
                Ok(()) | Err(Errno::EXIST) => Ok(()),
                Err(error) => Err(error.to_string()),
            }
        });
        if let Err(error) = loaded {
            complain(&format!("edgewright-guest: cannot load {path}: {error}"));
        }
        // Memory that the image gets.
        let _ = fs::remove_file(path);
    }
}

/// A disk by its serial number.
fn disk(wanted: &str) -> Result<PathBuf, Fault> {
    let until = Instant::now() + DISK_TIMEOUT;
    loop {
        for entry in fs::read_dir("/sys/block").into_iter().flatten().flatten() {
            let serial = fs::read_to_string(entry.path().join("serial")).unwrap_or_default();
            let device = Path::new("/dev").join(entry.file_name());
            // The serial number of a virtio disk has at most 20 characters.
            if serial.trim_end() == wanted && device.exists() {
                return Ok(device);
            }
        }
        if Instant::now() >= until {
            let error = io::Error::other("no virtio disk: virtio_pci and virtio_blk are needed");
            return Err((format!("find the disk {wanted}"), error));
        }
        std::thread::sleep(PAUSE);
    }
}

/// The read-only root with a memory file system over it.
fn overlay(disk: &Path) -> Result<(), Fault> {
    for path in ["/lower", "/upper", ROOT] {
        folder(Path::new(path))?;
    }
    attach(&disk.display().to_string(), "/lower", "erofs", MountFlags::RDONLY, "")?;
    // Memory is what bounds it: a guest that fills it runs out of memory.
    attach("upper", "/upper", "tmpfs", MountFlags::empty(), "mode=0755,size=90%")?;
    for path in ["/upper/files", "/upper/work"] {
        folder(Path::new(path))?;
    }
    // As the root folder of the image, whatever its mode is.
    if let Ok(own) = fs::metadata("/lower") {
        let _ = fs::set_permissions("/upper/files", fs::Permissions::from_mode(own.permissions().mode()));
    }
    let options = "lowerdir=/lower,upperdir=/upper/files,workdir=/upper/work";
    attach("overlay", ROOT, "overlay", MountFlags::empty(), options)
}

/// A `/run` of its own with the programs of the host, which every init keeps.
pub(crate) fn bring_programs(root: &Path) -> Result<(), Fault> {
    let run = root.join("run");
    folder(&run)?;
    attach(
        "tmpfs",
        &run.display().to_string(),
        "tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        "mode=0755",
    )?;
    let to = run.join("edgewright");
    folder(&to)?;
    for name in [CHECKS, GUEST] {
        let step = |error| (format!("copy {name}"), error);
        let target = to.join(name);
        fs::copy(Path::new(INITRD_FOLDER).join(name), &target).map_err(step)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(0o755)).map_err(step)?;
    }
    Ok(())
}

/// Makes the new root the root.
fn enter() -> Result<(), Fault> {
    for name in ["dev", "proc", "sys"] {
        let target = Path::new(ROOT).join(name);
        folder(&target)?;
        let step = |error: Errno| (format!("move /{name}"), error.into());
        mount_move(Path::new("/").join(name), &target).map_err(step)?;
    }
    let step = |error: Errno| ("enter the image".to_owned(), error.into());
    rustix::process::chdir(ROOT).map_err(step)?;
    mount_move(".", "/").map_err(step)?;
    rustix::process::chroot(".").map_err(step)?;
    rustix::process::chdir("/").map_err(step)
}

fn folder(path: &Path) -> Result<(), Fault> {
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err((format!("create {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

pub(crate) fn attach(
    source: &str,
    target: &str,
    kind: &str,
    flags: MountFlags,
    options: &str,
) -> Result<(), Fault> {
    let options = std::ffi::CString::new(options).unwrap_or_default();
    mount(source, target, kind, flags, options.as_c_str())
        .map_err(|error: Errno| (format!("mount {kind} on {target}"), error.into()))
}

/// Writes a line to the console, whatever standard error is.
pub(crate) fn complain(line: &str) {
    let text = format!("{line}\n");
    let kernel = fs::OpenOptions::new().write(true).open("/dev/console");
    let written = kernel.and_then(|mut console| console.write_all(text.as_bytes()));
    if written.is_err() {
        let _ = io::stderr().write_all(text.as_bytes());
    }
}

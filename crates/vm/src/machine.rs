//! A running machine: QEMU, its console, its channel. It ends when this is dropped, and with this process.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use edgewright_guest::{CHECKS, ENTRY, GUEST, INITRD_FOLDER, ORDER_ENTRY, ROOT_DISK};
use edgewright_process::{CancellationToken, CommandError, Finished, OwnedTask, ProcessContext, Stream};
use tokio::sync::watch;

use crate::acceleration::Accelerator;
use crate::channel::{Channel, ChannelError};
use crate::config::{Access, Boot, Description, Disk, GUEST_SOCKET, MONITOR_SOCKET, kernel_arguments};
use crate::console::Console;
use crate::cpio::Archive;
use crate::device::new_variables;
use crate::disk::Reached;
use crate::folders::blocking;
use crate::tools::QEMU;
use crate::{CachedImage, Context, Hardware, Profile, VmError, disk, qmp};

/// The longest life of a machine that is not kept.
const MAX_LIFE: Duration = Duration::from_hours(24);
/// How long QEMU may take to open its sockets.
const SOCKET_TIMEOUT: Duration = Duration::from_mins(1);
/// How long the monitor's last words are awaited after QEMU ended.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// The longest line of a console, in bytes; the rest of it is dropped.
const LINE_LIMIT: usize = 4096;
/// UEFI firmware of the tools, and its variables.
pub(crate) const FIRMWARE: &str = "usr/share/OVMF/OVMF_CODE_4M.fd";
pub(crate) const VARIABLES: &str = "usr/share/OVMF/OVMF_VARS_4M.fd";

/// The static programs that are brought into guests.
#[derive(Debug, Clone, Copy)]
pub struct Programs {
    /// `edgewright-guest`.
    pub guest: &'static [u8],
    /// `edgewright-checks`.
    pub checks: &'static [u8],
}

/// What to start.
#[derive(Debug)]
pub struct Setup<'a> {
    /// The image's files.
    pub image: &'a CachedImage,
    /// How it starts.
    pub profile: Profile,
    /// What it may take.
    pub hardware: Hardware,
    /// What is brought in.
    pub programs: Programs,
    /// What runs its instructions.
    pub accelerator: Accelerator,
    /// The folder of a machine that outlives this process; it exists and is empty.
    pub keep: Option<&'a Path>,
}

/// Why a machine ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stopped {
    /// The guest powered off.
    PoweredOff,
    /// The guest restarted, which ends it here.
    Restarted,
    /// The guest's kernel panicked.
    Panicked(String),
    /// Our first process could not start the image.
    NotStarted(String),
    /// QEMU failed, or was killed.
    Qemu(String),
}

impl Stopped {
    /// Whether the guest ended it, and not the host.
    pub const fn is_of_image(&self) -> bool {
        !matches!(self, Self::Qemu(_))
    }

    fn of(ended: &Result<Finished, CommandError>, reason: Option<&str>, console: &Console) -> Self {
        let finished = match ended {
            Ok(finished) => finished,
            Err(error) => return Self::Qemu(edgewright_model::error::Chain(error).to_string()),
        };
        if let Some(panic) = &console.panic {
            return Self::Panicked(panic.clone());
        }
        if let Some(fatal) = &console.fatal {
            return Self::NotStarted(fatal.clone());
        }
        match reason {
            Some("guest-shutdown") => Self::PoweredOff,
            Some("guest-reset") => Self::Restarted,
            Some("guest-panic") => Self::Panicked("without a reason".to_owned()),
            _ if finished.success() => Self::Restarted,
            _ => {
                let lines = finished.output.stderr_tail.iter().rev();
                let reason = lines.map(|line| line.trim()).find(|line| !line.is_empty());
                Self::Qemu(reason.map_or_else(|| finished.ended.to_string(), str::to_owned))
            }
        }
    }
}

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::PoweredOff => f.write_str("the machine powered itself off"),
            Self::Restarted => f.write_str("the machine restarted itself"),
            Self::Panicked(reason) => write!(f, "the kernel panicked: {reason}"),
            Self::NotStarted(reason) => write!(f, "the image cannot be started: {reason}"),
            Self::Qemu(reason) => write!(f, "QEMU ended: {reason}"),
        }
    }
}

/// Why a machine does not answer.
#[derive(Debug)]
pub enum NoAnswer {
    /// It ended.
    Stopped(Stopped),
    /// It did not answer in time.
    TimedOut,
    /// Its socket cannot be used.
    Channel(ChannelError),
}

/// A machine.
#[derive(Debug)]
pub struct Machine {
    folder: PathBuf,
    kept: bool,
    console: Arc<Mutex<Console>>,
    channel: Option<Channel>,
    stopped: watch::Receiver<Option<Stopped>>,
    stop: CancellationToken,
    supervisor: Option<OwnedTask<()>>,
    started: Instant,
    _files: Option<tempfile::TempDir>,
}

impl Machine {
    /// Starts QEMU. Wait for the guest by [`Machine::answer`].
    ///
    /// # Errors
    /// The machine's files cannot be made.
    pub async fn launch(setup: Setup<'_>, context: &Context) -> Result<Self, VmError> {
        let files = match setup.keep {
            Some(_) => None,
            None => Some(
                tempfile::Builder::new()
                    .prefix("vm-")
                    .tempdir_in(&context.scratch)
                    .map_err(VmError::io("create a folder in", &context.scratch))?,
            ),
        };
        let own = files.as_ref().map(|files| files.path().to_owned());
        let folder = own.or_else(|| setup.keep.map(Path::to_owned)).unwrap_or_default();
        let boot = boot(&setup, &folder, context).await?;
        let description = Description {
            accelerator: setup.accelerator,
            hardware: setup.hardware,
            boot,
            kept: setup.keep.is_some(),
            firmware: context.tools.firmware(),
        };
        Ok(Self::start(&description, folder, files, context))
    }

    /// Starts QEMU in a folder.
    pub(crate) fn start(
        description: &Description,
        folder: PathBuf,
        files: Option<tempfile::TempDir>,
        context: &Context,
    ) -> Self {
        let kept = description.kept;
        let stop = CancellationToken::new();
        let command = context.tools.command(QEMU).args(description.arguments()).cwd(&folder);
        let temporary = folder.clone().into_os_string();
        let command = command.env("TMPDIR", temporary).context(&context.processes).cancel(stop.clone());
        let command = command.deadline(MAX_LIFE).line_limit(LINE_LIMIT);
        let console = Arc::new(Mutex::new(Console::default()));
        let (sender, stopped) = watch::channel(None);
        let monitor = folder.join(MONITOR_SOCKET);
        let supervisor = OwnedTask::spawn(supervise(command, kept, monitor, Arc::clone(&console), sender));
        let started = Instant::now();
        let supervisor = Some(supervisor);
        Self { folder, kept, console, channel: None, stopped, stop, supervisor, started, _files: files }
    }

    /// Waits until the guest answers; gives the time since the start.
    ///
    /// # Errors
    /// It ended, or did not answer in time.
    pub async fn answer(&mut self, within: Duration) -> Result<Duration, NoAnswer> {
        let socket = self.folder.join(GUEST_SOCKET);
        let greeted = async {
            let channel = Channel::open(&socket, SOCKET_TIMEOUT).await?;
            channel.greeting().await?;
            Ok::<Channel, ChannelError>(channel)
        };
        tokio::select! {
            biased;
            greeted = greeted => match greeted {
                Ok(channel) => self.channel = Some(channel),
                // QEMU's end shows first in its socket.
                Err(error) => return Err(match tokio::time::timeout(LAST_WORDS * 2, self.stopped()).await {
                    Ok(stopped) => NoAnswer::Stopped(stopped),
                    Err(_) => NoAnswer::Channel(error),
                }),
            },
            stopped = self.stopped() => return Err(NoAnswer::Stopped(stopped)),
            () = tokio::time::sleep(within) => return Err(NoAnswer::TimedOut),
        }
        Ok(self.started.elapsed())
    }

    /// The channel into the guest, once it answered.
    pub const fn channel(&self) -> Option<&Channel> {
        self.channel.as_ref()
    }

    /// Waits until the machine ends.
    pub async fn stopped(&self) -> Stopped {
        let mut stopped = self.stopped.clone();
        match stopped.wait_for(Option::is_some).await {
            Ok(stopped) => stopped.clone().unwrap_or(Stopped::Restarted),
            Err(_) => Stopped::Qemu("its supervisor ended".to_owned()),
        }
    }

    /// Why the machine ended, if it did.
    pub fn has_stopped(&self) -> Option<Stopped> {
        self.stopped.borrow().clone()
    }

    /// What the guest printed so far.
    pub async fn console(&self) -> Console {
        if self.kept {
            let mut console = Console::default();
            // The monitor has one client at a time.
            let ring = qmp::ring(&self.folder.join(MONITOR_SOCKET)).await.unwrap_or_default();
            ring.lines().for_each(|line| console.push(line));
            return console;
        }
        self.console.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ends the machine and waits until it is gone.
    pub async fn stop(&mut self) {
        self.channel = None;
        if self.kept {
            quit(&self.folder).await;
        }
        self.stop.cancel();
        if let Some(supervisor) = self.supervisor.take() {
            // It ends by its token.
            let _ = supervisor.await;
        }
    }
}

/// Ends a machine that was kept, by its folder.
pub async fn quit(folder: &Path) {
    qmp::quit(&folder.join(MONITOR_SOCKET)).await;
}

/// Connects to a machine that was kept.
///
/// # Errors
/// It does not run.
pub async fn attach(folder: &Path) -> Result<Channel, ChannelError> {
    Channel::open(&folder.join(GUEST_SOCKET), Duration::ZERO).await
}

/// Runs QEMU to its end, and finds out why it ended.
async fn supervise(
    command: edgewright_process::Command,
    kept: bool,
    monitor: PathBuf,
    console: Arc<Mutex<Console>>,
    sender: watch::Sender<Option<Stopped>>,
) {
    if kept {
        // QEMU detaches itself once it works.
        let started = command.run_status().await;
        let stopped = match started {
            Ok(finished) if finished.success() => {
                // While it is watched, its monitor is in use: look now and then.
                while qmp::is_running(&monitor).await {
                    tokio::time::sleep(LAST_WORDS).await;
                }
                Stopped::Restarted
            }
            other => Stopped::of(&other, None, &Console::default()),
        };
        sender.send_replace(Some(stopped));
        return;
    }
    let reason = OwnedTask::spawn(async move { qmp::end_of(&monitor).await });
    let line = |stream: Stream, line: &str| {
        if stream == Stream::Stdout {
            console.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    };
    let ended = command.run_lines_status(line).await;
    let reason = tokio::time::timeout(LAST_WORDS, reason).await;
    let reason = reason.ok().and_then(Result::ok).flatten();
    let console = console.lock().unwrap_or_else(PoisonError::into_inner).clone();
    sender.send_replace(Some(Stopped::of(&ended, reason.as_deref(), &console)));
}

/// Where the machine starts; makes the files for it.
async fn boot(setup: &Setup<'_>, folder: &Path, context: &Context) -> Result<Boot, VmError> {
    let image = setup.image;
    match setup.profile {
        Profile::Direct => {
            let initrd = folder.join("initrd");
            let (modules, target) = (image.modules(), initrd.clone());
            let programs = programs_archive(setup.programs, false);
            blocking(move || {
                let mut bytes = std::fs::read(&modules).map_err(VmError::io("read", &modules))?;
                bytes.extend_from_slice(&programs);
                std::fs::write(&target, bytes).map_err(VmError::io("write", &target))
            })
            .await?;
            let arguments = kernel_arguments(&image.facts.kernel.arguments, "");
            Ok(Boot::Kernel { kernel: image.vmlinuz(), initrd, arguments, root: Some(image.root()) })
        }
        Profile::Uefi => {
            let disk = disk::disk(image, (setup.programs, Reached::ByChannel), context).await?;
            let variables = folder.join("variables");
            new_variables(&variables, context).await?;
            let disk = Disk { path: disk, ..Disk::new(ROOT_DISK, Access::Discard) };
            Ok(Boot::Firmware { code: context.tools.file(FIRMWARE), variables, disk })
        }
    }
}

/// The archive with our programs: as an initramfs, or as what is added to an image's own.
pub(crate) fn programs_archive(programs: Programs, is_added: bool) -> Vec<u8> {
    let mut archive = Archive::new();
    archive.folder(INITRD_FOLDER);
    archive.file(&format!("{INITRD_FOLDER}/{GUEST}"), 0o755, programs.guest);
    archive.file(&format!("{INITRD_FOLDER}/{CHECKS}"), 0o755, programs.checks);
    if is_added {
        for name in [ENTRY, ORDER_ENTRY] {
            archive.link(&format!("{INITRD_FOLDER}/{name}"), GUEST);
        }
    } else {
        archive.folder("dev");
        archive.character_device("dev/console", (5, 1));
        archive.link("init", &format!("{INITRD_FOLDER}/{GUEST}"));
    }
    archive.finish()
}

/// The context of a machine that outlives its job: without the variables by which processes of jobs are
/// found.
pub fn unmarked(context: &ProcessContext, marks: &[&str]) -> ProcessContext {
    let fresh = ProcessContext::new(CancellationToken::new());
    let kept = context.env().iter().filter(|(name, _)| !marks.iter().any(|mark| name == mark));
    kept.fold(fresh, |context, (name, value)| context.with_env(name, value))
}

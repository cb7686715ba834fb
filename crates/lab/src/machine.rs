//! Machines that lanes run on: a machine starts an unmodified digest, runs the check runner, and is removed.
//!
//! ```text
//!  start ──▶ run_checks ──▶ state ──▶ evidence ──▶ stop   (a machine started with `keep` stays)
//!    └─ a fault ends the lane; the machine has cleaned up
//! ```
//!
//! A lane ([`crate::lane`]) uses machines by this trait only. podman's is in [`crate::container`], QEMU's in
//! [`crate::vm`], devices in `crate::device`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use edgewright_model::Digest;
use edgewright_model::error::Chain;
use edgewright_model::order::ManifestRef;
use edgewright_model::outcome::FailureKind;
use edgewright_process::{CommandError, Ended, Stream};

use crate::evidence::Piece;

/// A boxed future, so that machines can be chosen at run time.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Receives the check runner's output, line by line.
pub type OnLine<'a> = &'a mut (dyn FnMut(Stream, &str) + Send);

/// One machine of one lane. It is made for a job, started once and stopped once.
pub trait Machine: fmt::Debug + Send + Sync {
    /// Facts about this kind of machine, known before it starts.
    fn facts(&self) -> MachineFacts;

    /// Pulls a digest and starts it with its own init. After an error it is stopped, too, and may have
    /// evidence.
    fn start<'a>(&'a mut self, start: Start<'a>) -> BoxFuture<'a, Result<(), LaneFault>>;

    /// Starts the check runner with `order` and reads its lines until it ends, the machine ends, the time
    /// limit is reached, or the job is cancelled.
    fn run_checks<'a>(
        &'a self,
        order: Vec<u8>,
        within: Duration,
        on_line: OnLine<'a>,
    ) -> BoxFuture<'a, RunnerEnd>;

    /// What follows checks of which none failed.
    fn after_checks<'a>(&'a mut self, _candidate: &'a Digest) -> BoxFuture<'a, Result<(), LaneFault>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// What the started machine runs as process 1, for messages: "`/bin/app` as `daemon`".
    fn starts(&self) -> Option<String> {
        None
    }

    /// Whether the image's init still runs.
    fn state(&self) -> BoxFuture<'_, Result<MachineState, LaneFault>>;

    /// Gathers evidence. Pieces that cannot be gathered are missing.
    fn evidence<'a>(&'a self, state: &'a MachineState) -> BoxFuture<'a, Vec<Piece>>;

    /// Removes the machine, even after a cancellation.
    fn stop(&mut self) -> BoxFuture<'_, ()>;
}

/// Facts about a machine that verdicts record.
#[derive(Debug, Clone, PartialEq)]
pub struct MachineFacts {
    /// Its kind: part of a verdict's identity.
    pub profile: &'static str,
    /// Factor on every time limit: 1 at the speed of real hardware, more under an emulated processor.
    pub scale: f64,
    /// Its hardware acceleration, such as `kvm`; none if it is not virtual.
    pub accelerator: Option<&'static str>,
    /// The digest of the check runner.
    pub runner: Digest,
}

/// Parameters of a start.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// The platform manifest.
    pub manifest: &'a ManifestRef,
    /// Whether it is kept after its checks, for inspection.
    pub keep: bool,
    /// The time limit of the start.
    pub within: Duration,
}

/// How the check runner ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunnerEnd {
    /// It exited, or was killed inside of the machine.
    Ended(Ended),
    /// The job was cancelled.
    Cancelled,
    /// The machine did not respond in time.
    Hung,
    /// It could not be started.
    Failed(LaneFault),
}

/// The state of a machine's init.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MachineState {
    /// It runs.
    Runs,
    /// It ended.
    Ended {
        /// The command of the init, and its user where that is not root.
        init: StartCommand,
        /// Its exit code.
        code: i64,
        /// Whether the kernel killed it because memory ran out.
        out_of_memory: bool,
    },
    /// The whole machine ended.
    Gone {
        /// Why.
        fault: LaneFault,
    },
    /// It runs, but its boot does not come to an end.
    Stuck {
        /// Why.
        fault: LaneFault,
    },
}

/// What an image starts as process 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartCommand {
    /// The words, separated by spaces.
    pub command: String,
    /// The image's user; none for root.
    pub user: Option<String>,
}

impl StartCommand {
    /// Whether this is the command of an init. A script may execute one.
    pub fn is_init(&self) -> bool {
        const INITS: [&str; 9] = [
            "init",
            "systemd",
            "openrc-init",
            "runit",
            "runit-init",
            "s6-svscan",
            "dinit",
            "finit",
            "shepherd",
        ];
        let mut words = self.command.split_whitespace();
        let program = words.next().unwrap_or_default();
        let name = program.rsplit('/').next().unwrap_or_default();
        INITS.contains(&name) || (name == "busybox" && words.next() == Some("init"))
    }

    /// The failure of a process 1 that ended with `how` before the checks were done.
    pub fn ended(&self, how: &str) -> String {
        match (&self.user, self.is_init()) {
            (None, true) => {
                format!("the image's init `{}` ended with {how} before the checks were done", self.command)
            }
            (Some(user), true) => format!(
                "the image's init `{}` ended with {how} before the checks were done: it was started as `{user}`, an init needs `USER root`",
                self.command
            ),
            (_, false) => format!(
                "the image starts {self}, which is no init and ended with {how} before the checks were done"
            ),
        }
    }
}

impl fmt::Display for StartCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.command)?;
        self.user.iter().try_for_each(|user| write!(f, " as `{user}`"))
    }
}

/// Why a lane cannot continue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaneFault {
    /// The kind of the failure.
    pub kind: FailureKind,
    /// What happened, on one line.
    pub message: String,
}

impl LaneFault {
    /// A fault of the host.
    pub const fn of_host(message: String) -> Self {
        Self { kind: FailureKind::Infrastructure, message }
    }

    /// A subprocess of the host failed.
    pub fn infrastructure(what: &str, error: &CommandError) -> Self {
        let hint = error.hint().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Self::of_host(format!("{what}: {}{hint}", Chain(error)))
    }

    /// A fault of the image.
    pub const fn of_image(message: String) -> Self {
        Self { kind: FailureKind::Image, message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_1_that_ended_is_named_as_what_it_was() {
        let ended = |command: &str, user: Option<&str>| {
            StartCommand { command: command.to_owned(), user: user.map(str::to_owned) }.ended("0")
        };
        assert_eq!(
            ended("/sbin/init", None),
            "the image's init `/sbin/init` ended with 0 before the checks were done"
        );
        assert!(ended("/usr/lib/systemd/systemd --system", Some("app")).contains("needs `USER root`"));
        assert!(ended("/bin/busybox init", None).starts_with("the image's init"));
        for (command, user, want) in [
            ("bash", None, "the image starts `bash`, which is no init and ended with 0"),
            ("/init.sh", Some("app"), "the image starts `/init.sh` as `app`, which is no init"),
            ("", None, "the image starts ``, which is no init"),
        ] {
            assert!(ended(command, user).starts_with(want), "{}", ended(command, user));
        }
    }
}

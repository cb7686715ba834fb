//! One attempt at one assertion: it holds now, or the actual state.
//!
//! The cause of a miss is the *check* if the assertion cannot work anywhere (a malformed URL, a relative
//! path, a host name: the runner resolves none), the *infrastructure* if the machine has no processes or
//! memory left for the attempt, else the *image*. A missing program is a failure of the image: the check
//! defines what the image must have.

mod command;
mod file;
pub(crate) mod greenboot;
mod http;
mod init;
mod karg;
mod mount;
mod net;
mod package;
mod process;
mod response;
mod script;
mod systemd;

use std::path::Path;
use std::time::Duration;

use edgewright_model::outcome::FailureKind;
use edgewright_model::spec::Assertion;
use edgewright_model::verdict::CheckOutcome;

/// Time limit of one attempt at something that should respond at once, before scaling: a server that hangs
/// while it starts gets another chance.
const ONE_LOOK: Duration = Duration::from_secs(10);

/// The time for one attempt.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    whole: Duration,
    scale: f64,
}

impl Budget {
    /// The rest of a check's time limit, and the factor for all limits.
    pub(crate) const fn new(left: Duration, scale: f64) -> Self {
        Self { whole: left, scale }
    }

    /// The rest of the time limit.
    pub(crate) const fn whole(self) -> Duration {
        self.whole
    }

    /// The factor for all limits.
    pub(crate) const fn scale(self) -> f64 {
        self.scale
    }

    /// The limit of an attempt at something that should respond at once.
    pub(crate) fn one_look(self) -> Duration {
        self.whole.min(ONE_LOOK.mul_f64(self.scale))
    }
}

/// The result of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The assertion holds.
    Holds,
    /// It holds, with notes.
    HoldsWith(Vec<String>),
    /// It does not hold.
    Misses(Miss),
}

/// The actual state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Miss {
    /// The cause.
    pub(crate) kind: FailureKind,
    /// The actual state, on one line.
    pub(crate) message: String,
    /// Output of the command, body of the answer, status of the units: the last lines.
    pub(crate) output: Vec<String>,
    /// Whether a retry cannot succeed.
    pub(crate) is_final: bool,
    /// Whether the machine has no init at all: then no other check that still misses will hold, either.
    pub(crate) has_no_init: bool,
}

impl Miss {
    /// The final outcome when the time limit is over.
    pub(crate) fn into_outcome(self) -> CheckOutcome {
        CheckOutcome::Failed { kind: self.kind, message: self.message, output: self.output }
    }
}

impl Finding {
    /// The image is not in the expected state (yet).
    pub(crate) fn image(message: impl Into<String>, output: Vec<String>) -> Self {
        let message = message.into();
        Self::Misses(Miss { kind: FailureKind::Image, message, output, is_final: false, has_no_init: false })
    }

    /// The same, and another try would find the same.
    pub(crate) fn for_good(self) -> Self {
        match self {
            Self::Misses(miss) => Self::Misses(Miss { is_final: true, ..miss }),
            holds => holds,
        }
    }

    /// The check itself cannot work.
    pub(crate) fn check(message: impl Into<String>) -> Self {
        let message = message.into();
        Self::Misses(Miss {
            kind: FailureKind::Check,
            message,
            output: Vec::new(),
            is_final: true,
            has_no_init: false,
        })
    }

    /// The image's command is no init.
    pub(crate) fn no_init(why: impl Into<String>) -> Self {
        match Self::image(why, Vec::new()) {
            Self::Misses(miss) => Self::Misses(Miss { is_final: true, has_no_init: true, ..miss }),
            holds => holds,
        }
    }

    /// A program could not be started.
    pub(crate) fn not_started(program: &str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::NotFound => Self::image(format!("`{program}` is not in the image"), Vec::new()),
            ErrorKind::PermissionDenied => {
                Self::image(format!("`{program}` is not executable: {error}"), Vec::new())
            }
            ErrorKind::InvalidInput => Self::check(format!("`{program}` cannot be run: {error}")),
            ErrorKind::OutOfMemory | ErrorKind::WouldBlock => Self::Misses(Miss {
                kind: FailureKind::Infrastructure,
                message: format!("`{program}` cannot be started: {error}"),
                output: Vec::new(),
                is_final: false,
                has_no_init: false,
            }),
            _ => Self::image(format!("`{program}` cannot be started: {error}"), Vec::new()),
        }
    }
}

/// Makes one attempt.
pub(crate) fn look(assertion: &Assertion, budget: Budget) -> Finding {
    match assertion {
        Assertion::Systemd { allow_failed } => systemd::look_at_state(allow_failed, budget),
        Assertion::Unit { name } => systemd::look_at_unit(name, budget),
        Assertion::Port { host, port } => net::look_at_port(host, *port, budget),
        Assertion::Http { url, status, body } => http::look(url, *status, body.as_deref(), budget),
        Assertion::Command { argv, exit, stdout } => command::look(argv, *exit, stdout.as_deref(), budget),
        Assertion::File { path, exists, contains, mode, owner } => {
            let expected = file::Expected { contains: contains.as_deref(), mode: *mode, owner: *owner };
            file::look(path, *exists, &expected)
        }
        Assertion::Process { which, user, count } => process::look(which, user.as_deref(), *count),
        Assertion::Package { name, version } => package::look(name, version.as_deref(), budget),
        Assertion::Mount { path, fstype, options } => mount::look(path, fstype.as_deref(), options),
        Assertion::Karg { name, value } => karg::look(name, value.as_deref()),
        Assertion::Script { path, content } => script::look(path.file_name(), content, budget),
        Assertion::Greenboot => greenboot::look(Path::new("/"), budget),
        // The runner skips them: they are about layers, which are not visible in a machine.
        Assertion::Size { .. } | Assertion::Static { .. } => {
            Finding::check("only the lane `static` inspects layers")
        }
    }
}

/// Whether `text` occurs in `bytes`.
pub(crate) fn contains(bytes: &[u8], text: &str) -> bool {
    text.is_empty() || bytes.windows(text.len()).any(|window| window == text.as_bytes())
}

//! Checks: assertions about an image, most of them about the running one.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Lane, Owner};
use crate::duration::Span;
use crate::names::CheckId;
use crate::size::ByteSize;
use crate::tree::TreePath;

/// How long a rule of the lane `static` may take that starts a program.
const STATIC_WITHIN: Span = Span::from_secs(120);

/// An entry of `checks:`.
#[derive(Debug, Clone, PartialEq)]
pub enum CheckEntry {
    /// A check; replaces an ancestor's of the same id.
    On(Check),
    /// `off: REASON`: disables an ancestor's check.
    Off {
        /// The check's id.
        id: CheckId,
        /// The reason.
        reason: String,
    },
}

/// An assertion about a running image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Check {
    /// Its id.
    pub id: CheckId,
    /// What must hold.
    pub assert: Assertion,
    /// The time limit: it is retried until it holds or this time since the start of the machine is over.
    pub within: Span,
    /// The lanes it runs in; `None`: all lanes of the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<BTreeSet<Lane>>,
}

/// What must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Assertion {
    /// The service manager has started everything: `systemctl is-system-running`.
    Systemd {
        /// Units that may have failed; then `degraded` passes.
        allow_failed: Vec<String>,
    },
    /// A unit is active.
    Unit {
        /// Its full name, with the suffix.
        name: String,
    },
    /// Something listens on a port (or a socket accepts).
    Port {
        /// Host or address, `127.0.0.1` by default.
        host: String,
        /// Port number.
        port: u16,
    },
    /// A URL answers (plain `http://`).
    Http {
        /// The URL.
        url: String,
        /// Expected status.
        status: u16,
        /// A text that the body must contain.
        body: Option<String>,
    },
    /// A command ends with an exit code.
    Command {
        /// Program and arguments, run without a shell.
        argv: Vec<String>,
        /// Expected exit code.
        exit: i32,
        /// A text that standard output must contain.
        stdout: Option<String>,
    },
    /// A file is as described (symbolic links are followed).
    File {
        /// Absolute path.
        path: String,
        /// Whether it must exist; the rest applies only where it must.
        exists: bool,
        /// A text that it must contain.
        contains: Option<String>,
        /// Its permission bits.
        mode: Option<u32>,
        /// Its numeric owner.
        owner: Option<Owner>,
    },
    /// Processes run.
    Process {
        /// The check's id.
        which: ProcessMatch,
        /// The user that they run as, by name or number; `None`: any user.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// How many there must be at least, from 1.
        count: u32,
    },
    /// A package is installed, by the image's own dpkg or rpm.
    Package {
        /// Its name.
        name: String,
        /// Its version; a `*` at the end matches any suffix. `None`: any version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// A path is a mount point.
    Mount {
        /// Absolute path.
        path: String,
        /// The file system's type; `None`: any.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fstype: Option<String>,
        /// Options that the mount or its file system must have, such as `ro` or `size=1024k`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
    /// The kernel was started with an argument. Skipped in lanes without a kernel of their own: see
    /// [`Assertion::skip_reason`].
    Karg {
        /// Its name.
        name: String,
        /// Its value; `None`: with any value or without one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// A script of the repository ends with 0. It travels in the check, and so is part of the check set's
    /// digest.
    Script {
        /// Its path in the repository, for messages.
        path: TreePath,
        /// Its text, at most [`SCRIPT_LIMIT`] bytes, beginning with `#!`.
        content: String,
    },
    /// The image's own greenboot checks: those in `required.d` must pass, those in `wanted.d` are reported.
    Greenboot,
    /// The image is not larger than a limit, of which there is at least one. Only for the lane `static`.
    Size {
        /// All layers as a registry holds them: what a machine downloads that has none of them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        download: Option<ByteSize>,
        /// The files of the finished image: what it takes on a disk.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unpacked: Option<ByteSize>,
    },
    /// A built-in check of the lane `static`: see [`static_checks`].
    Static {
        /// The rule.
        rule: StaticRule,
    },
}

/// The largest script of a check, in bytes: a check set travels whole in every order and is published beside
/// the image.
pub const SCRIPT_LIMIT: u64 = 64 * 1024;

/// How a process is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessMatch {
    /// By the last component of its executable's path, or by the kernel's name of the process (for a script,
    /// the script's name).
    Name(String),
    /// By a text in its command line, arguments joined by spaces.
    Command(String),
}

impl Assertion {
    /// Why the check is skipped in this lane; `None` if it runs.
    pub const fn skip_reason(&self, lane: Lane) -> Option<&'static str> {
        match (self, lane) {
            (Self::Size { .. } | Self::Static { .. }, Lane::Static) => None,
            (Self::Size { .. } | Self::Static { .. }, _) => {
                Some("only the lane `static` inspects the layers")
            }
            (_, Lane::Static) => Some("the lane `static` starts no machine"),
            (Self::Karg { .. }, Lane::Container) => Some("a container uses the kernel of its host"),
            _ => None,
        }
    }
}

/// A built-in rule of the lane `static`, which applies to every image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StaticRule {
    /// Exactly one kernel, with its initramfs beside it.
    Kernel,
    /// No private keys or passwords in any layer.
    Secrets,
    /// No machine id that all machines would share.
    MachineId,
    /// The links of the merged `/usr` (`/lib`, `/bin`, …) of a lower layer are still links.
    UsrMerge,
    /// No layer hides a whole top-level folder of the layers below.
    Whiteouts,
    /// Programs and libraries are of the image's architecture.
    Architecture,
    /// Every enabled unit exists.
    Units,
    /// Every logically bound image (bootc) is pinned by digest.
    BoundImages,
    /// `bootc container lint` passes, if the image has bootc.
    BootcLint,
}

impl StaticRule {
    /// Every rule, in the order in which results are shown.
    pub const ALL: [Self; 9] = [
        Self::Kernel,
        Self::Secrets,
        Self::MachineId,
        Self::UsrMerge,
        Self::Whiteouts,
        Self::Architecture,
        Self::Units,
        Self::BoundImages,
        Self::BootcLint,
    ];

    /// The id of the rule's check.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Kernel => "static.kernel",
            Self::Secrets => "static.secrets",
            Self::MachineId => "static.machine-id",
            Self::UsrMerge => "static.usr-merge",
            Self::Whiteouts => "static.whiteouts",
            Self::Architecture => "static.architecture",
            Self::Units => "static.units",
            Self::BoundImages => "static.bound-images",
            Self::BootcLint => "static.bootc-lint",
        }
    }
}

/// The built-in checks of an image with the lane `static`. They come before all others, so that `off` and
/// exceptions apply to them.
pub fn static_checks() -> Vec<Check> {
    let check = |rule: StaticRule| {
        // The ids are constants that satisfy the grammar of check ids.
        let id = rule.id().parse().ok()?;
        let lanes = Some(BTreeSet::from([Lane::Static]));
        Some(Check { id, assert: Assertion::Static { rule }, within: STATIC_WITHIN, lanes })
    };
    StaticRule::ALL.into_iter().filter_map(check).collect()
}

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
        /// Which.
        id: CheckId,
        /// Why.
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
    /// How long it may take until it holds, polled from the start of the machine.
    pub within: Span,
    /// The lanes it runs in; all that the image has where absent.
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
        /// Which.
        which: ProcessMatch,
        /// The user that they run as, by name or number; any where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// How many there must be at least, from 1.
        count: u32,
    },
    /// A package is installed, by the image's own dpkg or rpm.
    Package {
        /// Its name.
        name: String,
        /// Its version; a `*` at the end stands for any rest. Any version where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
    },
    /// A path is a mount point.
    Mount {
        /// Absolute path.
        path: String,
        /// The file system's type.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fstype: Option<String>,
        /// Options that the mount or its file system must have, such as `ro` or `size=1024k`.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        options: Vec<String>,
    },
    /// The kernel was started with an argument. Not for lanes without a kernel of their own: see [`Assertion::unfit_in`].
    Karg {
        /// Its name.
        name: String,
        /// Its value; any or none where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        value: Option<String>,
    },
    /// A script of the repository ends with 0. It travels in the check, and so is part of the check set's digest.
    Script {
        /// Where it stands in the repository, for people.
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
    /// What the lane `static` asks of every image by itself: see [`static_checks`].
    Static {
        /// Which of its rules.
        rule: StaticRule,
    },
}

/// The largest script of a check, in bytes: a check set travels whole in every order and is published beside the image.
pub const SCRIPT_LIMIT: u64 = 64 * 1024;

/// How a process is recognised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessMatch {
    /// By the last component of its executable's path, or by the kernel's name for it, which of a script is its own.
    Name(String),
    /// By a text in its command line, arguments joined by spaces.
    Command(String),
}

impl Assertion {
    /// Why it says nothing about an image in this lane; none where it does.
    pub const fn unfit_in(&self, lane: Lane) -> Option<&'static str> {
        match (self, lane) {
            (Self::Size { .. } | Self::Static { .. }, Lane::Static) => None,
            (Self::Size { .. } | Self::Static { .. }, _) => {
                Some("only the lane `static` looks at the layers")
            }
            (_, Lane::Static) => Some("nothing is started in the lane `static`"),
            (Self::Karg { .. }, Lane::Container) => Some("a container runs on the kernel of its host"),
            _ => None,
        }
    }
}

/// A rule of the lane `static`, which asks them of every image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StaticRule {
    /// Exactly one kernel, with its initramfs beside it.
    Kernel,
    /// No private keys and passwords in any layer.
    Secrets,
    /// No id that every machine would share.
    MachineId,
    /// Every enabled unit is there.
    Units,
    /// Every image that bootc binds to this one is named by its digest.
    BoundImages,
    /// `bootc container lint` passes, where bootc is in the image.
    BootcLint,
}

impl StaticRule {
    /// Every rule, in the order in which results are shown.
    pub const ALL: [Self; 6] =
        [Self::Kernel, Self::Secrets, Self::MachineId, Self::Units, Self::BoundImages, Self::BootcLint];

    /// The id of its check.
    pub const fn id(self) -> &'static str {
        match self {
            Self::Kernel => "static.kernel",
            Self::Secrets => "static.secrets",
            Self::MachineId => "static.machine-id",
            Self::Units => "static.units",
            Self::BoundImages => "static.bound-images",
            Self::BootcLint => "static.bootc-lint",
        }
    }
}

/// The checks that an image with the lane `static` has before all others, so that `off` and exceptions reach them.
pub fn static_checks() -> Vec<Check> {
    let check = |rule: StaticRule| {
        // The ids are fit by their own grammar.
        let id = rule.id().parse().ok()?;
        let lanes = Some(BTreeSet::from([Lane::Static]));
        Some(Check { id, assert: Assertion::Static { rule }, within: STATIC_WITHIN, lanes })
    };
    StaticRule::ALL.into_iter().filter_map(check).collect()
}

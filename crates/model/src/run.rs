//! Runs and releases: numbers and states, with their permitted transitions.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::names::InvalidName;

macro_rules! numbers {
    ($($(#[$doc:meta])* $name:ident($kind:literal);)+) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub u32);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                text.parse().map(Self).map_err(|_| InvalidName::new($kind, "want a whole number, such as 7", text))
            }
        }
    )+};
}

numbers! {
    /// A run's number: counted over all sources of a server, from 1.
    RunNumber("run number");
    /// A release's number: counted within its source, from 1.
    ReleaseNumber("release number");
    /// A rebuild's number: counted over all sources of a server, from 1.
    RebuildNumber("rebuild number");
}

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// The name in tables, JSON and messages.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.name())
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                match text {
                    $($text => Ok(Self::$variant),)+
                    _ => Err(InvalidName::new(stringify!($name), "not a state that this version knows", text)),
                }
            }
        }
    };
}

states! {
    /// Where a run is. Terminal: `passed`, `failed`, `cancelled`, `superseded`.
    RunState {
        /// Waits for its turn.
        Queued = "queued",
        /// Reads the commit and resolves missing locks.
        Preparing = "preparing",
        /// Its plan is fixed; jobs work on it.
        Running = "running",
        /// All jobs are over; results are being named.
        Releasing = "releasing",
        /// Every variant is as the commit wants it.
        Passed = "passed",
        /// Something failed; what passed was released all the same.
        Failed = "failed",
        /// Stopped by somebody.
        Cancelled = "cancelled",
        /// A newer commit of the same branch took its place before it began.
        Superseded = "superseded",
    }
}

impl RunState {
    /// Whether nothing follows.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Passed | Self::Failed | Self::Cancelled | Self::Superseded)
    }

    /// Whether a run may go from this state to another.
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Queued, Self::Preparing | Self::Superseded)
            // A run that only looks at locks passes without a plan.
            | (Self::Preparing, Self::Running | Self::Passed)
            | (Self::Running, Self::Releasing)
            | (Self::Releasing, Self::Passed) => true,
            (from, Self::Cancelled | Self::Failed) => !from.is_terminal(),
            _ => false,
        }
    }
}

states! {
    /// Where a node of a run is. Terminal: all but `waiting` and `running`.
    NodeState {
        /// Waits for its parent, or for its turn.
        Waiting = "waiting",
        /// A job works on it.
        Running = "running",
        /// Nothing to do: built and tested before.
        Reused = "reused",
        /// Built, and every lane passed.
        Passed = "passed",
        /// It, or its check, failed.
        Failed = "failed",
        /// An ancestor failed, or its definition has errors.
        Blocked = "blocked",
        /// Gone from the source.
        Retired = "retired",
        /// Stopped by somebody.
        Cancelled = "cancelled",
    }
}

impl NodeState {
    /// Whether nothing follows.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }

    /// Whether a child may start.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Reused | Self::Passed)
    }
}

states! {
    /// Why a run was made.
    Trigger {
        /// A followed branch moved.
        Commit = "commit",
        /// Somebody asked.
        Manual = "manual",
        /// A lock moved.
        Lock = "lock",
        /// Somebody tries some variants or lanes only; it makes no release.
        Selected = "selected",
    }
}

states! {
    /// Where a rebuild is. Terminal: `done`, `failed`.
    RebuildState {
        /// Waits for its turn.
        Queued = "queued",
        /// A job works on it.
        Running = "running",
        /// It was built again; what that proves is another matter.
        Done = "done",
        /// It could not even begin.
        Failed = "failed",
    }
}

impl RebuildState {
    /// Whether nothing follows.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

states! {
    /// How a release came by an entry.
    EntryOrigin {
        /// Passed in the release's run.
        New = "new",
        /// From the release before, with a reason.
        Carried = "carried",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [RunState; 8] = [
        RunState::Queued,
        RunState::Preparing,
        RunState::Running,
        RunState::Releasing,
        RunState::Passed,
        RunState::Failed,
        RunState::Cancelled,
        RunState::Superseded,
    ];

    #[test]
    fn nothing_follows_a_terminal_state_and_every_other_can_end() {
        for from in ALL {
            let successors = ALL.into_iter().filter(|to| from.may_become(*to)).count();
            assert_eq!(from.is_terminal(), successors == 0, "{from}");
            assert_eq!(from.name().parse::<RunState>().unwrap(), from);
        }
    }
}

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
                text.parse().map(Self).map_err(|_| InvalidName::new($kind, "use a whole number, such as 7", text))
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
    /// A rollout's number: counted over all sources of a server, from 1.
    RolloutNumber("rollout number");
}

macro_rules! states {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $($(#[$variant_doc])* $variant,)+ }

        impl $name {
            /// All of them, in the order of their declaration.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

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
    /// The state of a run. Terminal: `passed`, `failed`, `cancelled`, `superseded`.
    RunState {
        /// Waiting for its turn.
        Queued = "queued",
        /// Reading the commit and resolving missing locks.
        Preparing = "preparing",
        /// The plan is fixed and its jobs run.
        Running = "running",
        /// All jobs have ended; the results are being published.
        Releasing = "releasing",
        /// Every variant was built and passed.
        Passed = "passed",
        /// Something failed; the variants that passed were released nevertheless.
        Failed = "failed",
        /// Cancelled by a user.
        Cancelled = "cancelled",
        /// Replaced by a newer commit of the same branch before it started.
        Superseded = "superseded",
    }
}

impl RunState {
    /// Whether the state is final.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Passed | Self::Failed | Self::Cancelled | Self::Superseded)
    }

    /// Whether a run may change from this state to another.
    pub const fn may_become(self, next: Self) -> bool {
        match (self, next) {
            (Self::Queued, Self::Preparing | Self::Superseded)
            // A run that only checks locks passes without a plan.
            | (Self::Preparing, Self::Running | Self::Passed)
            | (Self::Running, Self::Releasing)
            | (Self::Releasing, Self::Passed) => true,
            (from, Self::Cancelled | Self::Failed) => !from.is_terminal(),
            _ => false,
        }
    }
}

states! {
    /// The state of a node of a run. Terminal: all but `waiting` and `running`.
    NodeState {
        /// Waiting for its parent, or for its turn.
        Waiting = "waiting",
        /// A job is running.
        Running = "running",
        /// Nothing to do: built and tested before.
        Reused = "reused",
        /// Built, and every lane passed.
        Passed = "passed",
        /// The build or a check failed.
        Failed = "failed",
        /// Not built: an ancestor failed, or the definition has errors.
        Blocked = "blocked",
        /// No longer declared by the source.
        Retired = "retired",
        /// Cancelled by a user.
        Cancelled = "cancelled",
    }
}

impl NodeState {
    /// Whether the state is final.
    pub const fn is_terminal(self) -> bool {
        !matches!(self, Self::Waiting | Self::Running)
    }

    /// Whether its children may start.
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Reused | Self::Passed)
    }
}

states! {
    /// What started a run.
    Trigger {
        /// A followed branch moved.
        Commit = "commit",
        /// A user requested it.
        Manual = "manual",
        /// A lock moved.
        Lock = "lock",
        /// A user builds or tests some variants or lanes only; it makes no release.
        Selected = "selected",
        /// A channel waits until the update from what it holds is tested; it makes no release.
        Update = "update",
    }
}

states! {
    /// The state of a rebuild. Terminal: `done`, `failed`.
    RebuildState {
        /// Waiting for its turn.
        Queued = "queued",
        /// A job is running.
        Running = "running",
        /// It was built again; the result records whether the bytes are equal.
        Done = "done",
        /// It could not start.
        Failed = "failed",
    }
}

impl RebuildState {
    /// Whether the state is final.
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Done | Self::Failed)
    }
}

states! {
    /// Where a release's entry comes from.
    EntryOrigin {
        /// Passed in the release's run.
        New = "new",
        /// Carried over from the previous release, with a reason.
        Carried = "carried",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_follows_a_terminal_state_and_every_other_can_end() {
        for &from in RunState::ALL {
            let successors = RunState::ALL.iter().filter(|to| from.may_become(**to)).count();
            assert_eq!(from.is_terminal(), successors == 0, "{from}");
            assert_eq!(from.name().parse::<RunState>().unwrap(), from);
        }
    }
}

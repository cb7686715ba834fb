//! Labels. Those with a fixed set of values are enums, so that the reference lists every value.

use std::fmt::Write as _;

use edgewright_model::outcome::{FailureKind, Phase};
use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

/// Declares an enum whose variants are the values of a label.
macro_rules! label {
    ($(#[$outer:meta])* $name:ident { $($variant:ident => $value:literal,)+ }) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub(super) enum $name { $($variant),+ }

        impl $name {
            pub(super) const ALL: &'static [Self] = &[$(Self::$variant),+];

            pub(super) const fn value(self) -> &'static str {
                match self { $(Self::$variant => $value),+ }
            }
        }

        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
                encoder.write_str(self.value())
            }
        }
    };
}

label! {
    /// How a job ended.
    JobResult {
        Passed => "passed",
        Failed => "failed",
        Retried => "retried",
    }
}

label! {
    /// What a failure is blamed on; `none` for a job that passed.
    Cause {
        None => "none",
        Image => "image",
        Check => "check",
        Infrastructure => "infrastructure",
    }
}

label! {
    /// The phase of a job.
    PhaseName {
        Lock => "lock",
        Fetch => "fetch",
        Build => "build",
        Push => "push",
        Test => "test",
    }
}

label! {
    /// The kind of object that a request to the registry is about.
    RequestKind {
        Ping => "ping",
        Catalog => "catalog",
        Tags => "tags",
        Upload => "upload",
        Manifest => "manifest",
        Blob => "blob",
        Referrers => "referrers",
        Other => "other",
    }
}

label! {
    /// The method of a request.
    RequestMethod {
        Get => "get",
        Head => "head",
        Put => "put",
        Post => "post",
        Patch => "patch",
        Delete => "delete",
        Other => "other",
    }
}

impl From<Option<FailureKind>> for Cause {
    fn from(kind: Option<FailureKind>) -> Self {
        match kind {
            None => Self::None,
            Some(FailureKind::Image) => Self::Image,
            Some(FailureKind::Check) => Self::Check,
            Some(FailureKind::Infrastructure) => Self::Infrastructure,
        }
    }
}

impl From<Phase> for PhaseName {
    fn from(phase: Phase) -> Self {
        match phase {
            Phase::Lock => Self::Lock,
            Phase::Fetch => Self::Fetch,
            Phase::Build => Self::Build,
            Phase::Push => Self::Push,
            Phase::Test => Self::Test,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct JobLabels {
    pub(super) result: JobResult,
    pub(super) kind: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct PhaseLabels {
    pub(super) phase: PhaseName,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RequestLabels {
    pub(super) kind: RequestKind,
    pub(super) method: RequestMethod,
    pub(super) status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StateLabels {
    pub(super) state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SourceLabels {
    pub(super) source: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct TargetLabels {
    pub(super) target: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SinkLabels {
    pub(super) sink: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReconcilerLabels {
    pub(super) reconciler: String,
}

//! Environment and cancellation that all commands of a job share.

use std::collections::BTreeMap;
use std::ffi::OsString;

use tokio_util::sync::CancellationToken;

/// Environment and cancellation that all commands of a job share. Debug shows names of variables, never
/// values.
#[derive(Clone, Default)]
pub struct ProcessContext {
    env: BTreeMap<OsString, OsString>,
    cancel: CancellationToken,
}

impl ProcessContext {
    /// No extra environment; the token ends all commands of the context.
    pub fn new(cancel: CancellationToken) -> Self {
        Self { env: BTreeMap::new(), cancel }
    }

    /// Adds a variable.
    #[must_use]
    pub fn with_env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// The token that ends all commands of the context.
    pub const fn cancel(&self) -> &CancellationToken {
        &self.cancel
    }

    /// The variables.
    pub const fn env(&self) -> &BTreeMap<OsString, OsString> {
        &self.env
    }
}

impl std::fmt::Debug for ProcessContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> = self.env.keys().collect();
        f.debug_struct("ProcessContext").field("env", &names).finish_non_exhaustive()
    }
}

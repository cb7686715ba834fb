//! The pins that hold what runs make, by name.

use edgewright_model::Digest;
use edgewright_model::run::RunNumber;

/// Holds the contexts of a run until it is over.
pub(crate) fn contexts(run: RunNumber) -> String {
    format!("contexts/run-{run}")
}

/// Holds what the jobs of a run made, until it is not needed any longer.
pub(crate) fn results(run: RunNumber) -> String {
    format!("results/run-{run}")
}

/// Holds the packages of a key.
pub(crate) fn packages(key: &Digest) -> String {
    format!("packages/{}", key.hex())
}

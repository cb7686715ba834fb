//! What leaves: notifications of what happened, and copies of what channels hold.

pub mod notify;
pub mod replicate;

pub(crate) use self::notify::Notifier;
pub(crate) use self::replicate::Replicator;

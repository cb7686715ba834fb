//! The agent of a device: takes updates, checks its health after a boot, and reports.
//!
//! | module | holds |
//! |---|---|
//! | [`updater`] | the trait of what puts an image onto this device and chooses what boots |

pub mod composefs;
pub mod durable;
pub mod updater;

//! The order of a device that is led from inside.

use edgewright_model::Digest;
use serde::{Deserialize, Serialize};

use crate::protocol::{InvalidOrder, ORDER_VERSION, RunOrder};

/// What the runner does in a device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceOrder {
    /// The checks.
    pub run: RunOrder,
    /// From which image to which.
    pub journey: Journey,
    /// The text of the marks that the device must keep.
    pub mark: String,
    /// How long all of it may take, in seconds.
    pub within: u64,
}

/// The way of a device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journey {
    /// What is on its disk.
    pub installed: Digest,
    /// What it is offered; none: it runs it already.
    pub target: Option<Digest>,
    /// What it runs at the end.
    pub ends_on: Digest,
    /// Whether what it is offered cannot become good: it must come back by itself.
    pub is_bad: bool,
    /// Whether the checks run before it takes the offer.
    pub checks_first: bool,
}

impl DeviceOrder {
    /// Reads an order.
    ///
    /// # Errors
    /// It is not JSON, or of another version.
    pub fn parse(json: &[u8]) -> Result<Self, InvalidOrder> {
        let order: Self = serde_json::from_slice(json)?;
        let version = order.run.version;
        if version == ORDER_VERSION { Ok(order) } else { Err(InvalidOrder::Version(version)) }
    }
}

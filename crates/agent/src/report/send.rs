//! The way of reports to the server.

use edgewright_api::device::{DeviceReports, MAX_REPORTS};
use edgewright_api::{Client, ClientError};
use edgewright_model::error::ErrorClass;
use edgewright_model::names::DeviceId;

use super::Outbox;
use crate::blocking::{Stopped, blocking};
use crate::store::StoreError;

/// Where reports go.
#[derive(Debug, Clone)]
pub struct Reporter {
    /// The server.
    pub client: Client,
    /// The name of this device.
    pub device: DeviceId,
}

/// Why reports stay in the queue.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// The queue cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The server did not take them.
    #[error("cannot send reports")]
    Server(#[from] ClientError),
    /// The agent stops.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}

impl Reporter {
    /// Sends what waits, oldest first, until the queue is empty or the server does not take one. A report
    /// that the server calls invalid is dropped: it would block all that follow.
    pub async fn send_all(&self, outbox: &Outbox, next: u64) -> Result<(), SendError> {
        let mut limit = MAX_REPORTS;
        loop {
            let queue = outbox.clone();
            let reports = blocking(move || queue.oldest(next, limit)).await??;
            if reports.is_empty() {
                return Ok(());
            }
            let numbers: Vec<u64> = reports.iter().map(|report| report.sequence).collect();
            match self.client.post_device_reports(&self.device, &DeviceReports { reports }).await {
                Ok(_) => limit = MAX_REPORTS,
                Err(ClientError::Rejected(error)) if error.code == ErrorClass::UserFault && limit > 1 => {
                    // One of them is invalid: they are sent one by one.
                    limit = 1;
                    continue;
                }
                Err(ClientError::Rejected(error)) if error.code == ErrorClass::UserFault => {
                    tracing::warn!(report.sequence = numbers.first(), %error, "the server rejected a report, dropped it");
                    limit = MAX_REPORTS;
                }
                Err(error) => return Err(error.into()),
            }
            let queue = outbox.clone();
            blocking(move || numbers.into_iter().try_for_each(|number| queue.remove(number))).await??;
        }
    }
}

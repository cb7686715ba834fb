//! Waking a reconciler before its turn.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Wakes one reconciler. Clones wake the same one. Several wake-ups before its next pass are one.
#[derive(Debug, Clone, Default)]
pub struct Wake(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    notify: Notify,
    cause: Mutex<Option<&'static str>>,
}

impl Wake {
    /// Starts the next pass now. `cause` is shown in the status; the first one counts.
    pub fn wake(&self, cause: &'static str) {
        self.cause().get_or_insert(cause);
        self.0.notify.notify_one();
    }

    /// Waits until it is woken; gives why. A wake-up that came during a pass counts.
    pub(super) async fn woken(&self) -> &'static str {
        loop {
            let cause = self.cause().take();
            if let Some(cause) = cause {
                return cause;
            }
            self.0.notify.notified().await;
        }
    }

    fn cause(&self) -> std::sync::MutexGuard<'_, Option<&'static str>> {
        self.0.cause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

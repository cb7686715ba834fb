//! Tracked tasks: every spawned future has a name, is cancelled by token and joined at shutdown; or it has
//! one owner, and ends with it. Nothing else in the workspace spawns tasks.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::{AbortHandle, JoinError};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

/// A set of tasks. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    cancel: CancellationToken,
    running: Arc<Mutex<Running>>,
}

#[derive(Debug, Default)]
struct Running {
    next: u64,
    tasks: BTreeMap<u64, (String, Option<AbortHandle>)>,
}

/// Tasks that did not end in time and were aborted.
#[derive(Debug, thiserror::Error)]
#[error("aborted tasks that did not end in time: {}", .names.join(", "))]
pub struct Stuck {
    /// Their names.
    pub names: Vec<String>,
}

impl Tasks {
    /// An empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// The token that [`Tasks::shutdown`] cancels; tasks watch it and end.
    pub const fn token(&self) -> &CancellationToken {
        &self.cancel
    }

    /// Names of the running tasks.
    pub fn names(&self) -> Vec<String> {
        self.lock().tasks.values().map(|(name, _)| name.clone()).collect()
    }

    /// Starts a task. Its panic is logged, not passed on. Must be called inside a runtime.
    pub fn spawn(&self, name: impl Into<String>, future: impl Future<Output = ()> + Send + 'static) {
        let name = name.into();
        let id = {
            let mut running = self.lock();
            running.next += 1;
            let id = running.next;
            running.tasks.insert(id, (name.clone(), None));
            id
        };
        let entry = Entry { running: Arc::clone(&self.running), id, name };
        let handle = self.tracker.spawn(async move {
            let _entry = entry;
            future.await;
        });
        // The task may have ended already; then it has no entry.
        if let Some((_, abort)) = self.lock().tasks.get_mut(&id) {
            *abort = Some(handle.abort_handle());
        }
    }

    /// Cancels the token and waits for all tasks; aborts those that take longer than `within`.
    pub async fn shutdown(&self, within: Duration) -> Result<(), Stuck> {
        self.cancel.cancel();
        self.tracker.close();
        if tokio::time::timeout(within, self.tracker.wait()).await.is_ok() {
            return Ok(());
        }
        let names = self.names();
        for (_, abort) in self.lock().tasks.values() {
            if let Some(abort) = abort {
                abort.abort();
            }
        }
        if names.is_empty() { Ok(()) } else { Err(Stuck { names }) }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A task with one owner, who awaits it. If dropped before its end, it is aborted. Use it for work that
/// continues while its owner does something else; a future that is awaited at once needs no task.
#[derive(Debug)]
#[must_use = "a task that is dropped is aborted"]
pub struct OwnedTask<T>(AbortOnDropHandle<T>);

impl<T: Send + 'static> OwnedTask<T> {
    /// Starts a task. Must be called inside a runtime.
    pub fn spawn(future: impl Future<Output = T> + Send + 'static) -> Self {
        #[expect(clippy::disallowed_methods, reason = "the handle aborts the task when it is dropped")]
        let handle = tokio::spawn(future);
        Self(AbortOnDropHandle::new(handle))
    }

    /// Ends the task at its next `await`; awaiting it then waits until it is gone.
    pub fn abort(&self) {
        self.0.abort();
    }

    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for OwnedTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(context)
    }
}

/// Removes a task from the list when its future is dropped, for any reason.
struct Entry {
    running: Arc<Mutex<Running>>,
    id: u64,
    name: String,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).tasks.remove(&self.id);
        if std::thread::panicking() {
            tracing::error!(task = %self.name, "task panicked");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn shutdown_joins_all() {
        let tasks = Tasks::new();
        let token = tasks.token().clone();
        tasks.spawn("waiter", async move { token.cancelled().await });
        tasks.spawn("short", async {});
        tasks.spawn("panics", async { panic!("on purpose") });
        assert!(tasks.names().contains(&"waiter".to_owned()));
        tasks.shutdown(Duration::from_secs(10)).await.unwrap();
        assert!(tasks.names().is_empty());
    }

    #[tokio::test]
    async fn an_owned_task_gives_its_result_and_ends_with_its_owner() {
        assert_eq!(OwnedTask::spawn(async { 7 }).await.unwrap(), 7);
        assert!(OwnedTask::spawn(async { panic!("on purpose") }).await.unwrap_err().is_panic());

        let (held, mut released) = tokio::sync::oneshot::channel::<()>();
        let task = OwnedTask::spawn(async move {
            let _held = held;
            std::future::pending::<()>().await;
        });
        assert!(
            released.try_recv().is_err_and(|error| error == tokio::sync::oneshot::error::TryRecvError::Empty)
        );
        drop(task);
        released.await.unwrap_err();
    }

    #[tokio::test]
    async fn a_stuck_task_is_named_and_aborted() {
        let tasks = Tasks::new();
        tasks.spawn("stuck", std::future::pending());
        let error = tasks.shutdown(Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.names, ["stuck"]);
        while !tasks.names().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

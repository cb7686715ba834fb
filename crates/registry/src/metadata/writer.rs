//! The one writer: takes what is queued, commits it at once.

use std::sync::Arc;

use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::apply::apply;
use super::cache::Cache;
use super::change::Change;
use crate::error::RegistryError;

/// Changes that wait; senders wait beyond it.
const QUEUE: usize = 256;
/// Changes in one commit: bounds how long the first of them waits for the last.
const GROUP: usize = 64;

struct Queued {
    change: Change,
    done: oneshot::Sender<Result<(), RegistryError>>,
}

/// A handle on the writer task.
#[derive(Debug)]
pub(super) struct Writer {
    queue: Mutex<Option<mpsc::Sender<Queued>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    pub(super) fn start(connection: SqliteConnection, cache: Arc<Cache>) -> Self {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run(connection, cache, receiver));
        Self { queue: Mutex::new(Some(sender)), task: Mutex::new(Some(task)) }
    }

    pub(super) async fn change(&self, change: Change) -> Result<(), RegistryError> {
        let queue = self.queue.lock().await.clone().ok_or(RegistryError::Closed)?;
        let (done, answer) = oneshot::channel();
        queue.send(Queued { change, done }).await.map_err(|_| RegistryError::Closed)?;
        answer.await.map_err(|_| RegistryError::Closed)?
    }

    pub(super) async fn close(&self) {
        self.queue.lock().await.take();
        let task = self.task.lock().await.take();
        if let Some(task) = task
            && task.await.is_err()
        {
            tracing::error!("the writer of registry.db panicked");
        }
    }
}

async fn run(mut connection: SqliteConnection, cache: Arc<Cache>, mut queue: mpsc::Receiver<Queued>) {
    let mut group = Vec::with_capacity(GROUP);
    while queue.recv_many(&mut group, GROUP).await > 0 {
        if commit(&mut connection, &cache, group.iter().map(|queued| &queued.change)).await.is_ok() {
            group.drain(..).for_each(|queued| answer(queued.done, Ok(())));
            continue;
        }
        // One of them is refused or fails: each alone, so that it takes nobody with it.
        for queued in group.drain(..) {
            let result = commit(&mut connection, &cache, std::iter::once(&queued.change)).await;
            answer(queued.done, result);
        }
    }
    if let Err(error) = connection.close().await {
        tracing::warn!(%error, "registry.db was not closed cleanly; its journal is replayed at the next start");
    }
}

fn answer(done: oneshot::Sender<Result<(), RegistryError>>, result: Result<(), RegistryError>) {
    // Whoever asked may be gone; what was committed stays committed.
    let _ = done.send(result);
}

async fn commit(
    connection: &mut SqliteConnection,
    cache: &Cache,
    changes: impl Iterator<Item = &Change> + Clone,
) -> Result<(), RegistryError> {
    let result = transact(connection, changes.clone()).await;
    if result.is_ok() {
        cache.forget(changes);
    } else {
        // SQLite has rolled back by itself after some errors: then this one fails, and nothing is left to undo.
        let _ = sqlx::query("ROLLBACK").execute(connection).await;
    }
    result
}

async fn transact(
    connection: &mut SqliteConnection,
    changes: impl Iterator<Item = &Change>,
) -> Result<(), RegistryError> {
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    for change in changes {
        apply(connection, change).await?;
    }
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(())
}

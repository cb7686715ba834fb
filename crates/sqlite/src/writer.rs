//! The writer task: takes queued writes, commits them together, replies.

use std::collections::VecDeque;
use std::error::Error;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use edgewright_process::{CancellationToken, Tasks};
use futures::future::BoxFuture;
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use crate::job::{Job, Write};
use crate::transaction::commit;

/// The length of the queue; further callers wait for a place in it.
const QUEUE: usize = 256;
/// The most writes in one transaction: bounds how long the first of them waits for the last.
const GROUP: usize = 64;
/// How long [`Writer::close`] waits for queued writes.
const CLOSE_WITHIN: Duration = Duration::from_mins(1);

/// The one writer of a database. Clones share it. It ends with [`Writer::close`], or when the last clone is
/// dropped.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: mpsc::Sender<Box<dyn Job>>,
    tasks: Tasks,
    counts: Arc<Counts>,
}

/// Counts since the writer was started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriterStats {
    /// Commits: each waits for the disk once.
    pub groups: u64,
    /// Committed writes.
    pub writes: u64,
}

/// Why a write was not committed, if the write itself did not fail. A retry may succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum WriterError {
    /// The writer was closed before the write.
    #[error("the database is closed")]
    Closed,
    /// No transaction could be begun: another process holds the write lock, or the disk is full.
    #[error("cannot begin a transaction")]
    Begin(#[source] Arc<sqlx::Error>),
    /// The transaction could not be committed and was undone.
    #[error("cannot commit the transaction")]
    Commit(#[source] Arc<sqlx::Error>),
    /// SQLite rolled the whole transaction back when another write in it failed.
    #[error("the transaction was rolled back because another write in it failed: {cause}")]
    RolledBack {
        /// Why the other write failed.
        cause: String,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    groups: AtomicU64,
    writes: AtomicU64,
}

impl Counts {
    /// Counts a commit, unless it had nothing to commit.
    pub(crate) fn add(&self, writes: u64) {
        if writes > 0 {
            self.groups.fetch_add(1, Ordering::Relaxed);
            self.writes.fetch_add(writes, Ordering::Relaxed);
        }
    }
}

impl Writer {
    /// Starts the writer on its connection. Must be called inside a runtime. `name` is the database's, for
    /// logs.
    pub fn start(name: &'static str, db: SqliteConnection) -> Self {
        let (queue, waiting) = mpsc::channel(QUEUE);
        let (tasks, counts) = (Tasks::new(), Arc::new(Counts::default()));
        let task = run(name, db, waiting, tasks.token().clone(), Arc::clone(&counts));
        tasks.spawn(format!("writer of {name}"), task);
        Self { queue, tasks, counts }
    }

    /// Runs a write, commits it together with other waiting writes, and gives its result. Once it returns
    /// `Ok`, the write survives a power cut. A write that fails or panics is undone alone; a panic is resumed
    /// in the caller.
    ///
    /// The closure runs on the writer, so it must wait for nothing but its connection: not for another write,
    /// not for the network. A queued write is committed even if its caller is dropped.
    ///
    /// # Errors
    /// The write's own error, or a [`WriterError`] if the group as a whole was not committed.
    pub async fn write<W, T, E>(&self, work: W) -> Result<T, E>
    where
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
        T: Send + 'static,
        E: Error + From<WriterError> + Send + 'static,
    {
        self.write_then(work, || ()).await
    }

    /// As [`Writer::write`]; `committed` runs once the write is committed, before any caller of its group
    /// gets a reply, and even if its own caller is gone. It must not panic.
    pub async fn write_then<W, C, T, E>(&self, work: W, committed: C) -> Result<T, E>
    where
        W: for<'c> FnOnce(&'c mut SqliteConnection) -> BoxFuture<'c, Result<T, E>> + Send + 'static,
        C: FnOnce() + Send + 'static,
        T: Send + 'static,
        E: Error + From<WriterError> + Send + 'static,
    {
        let (caller, answer) = oneshot::channel();
        let job = Write { work, committed, caller };
        self.queue.send(Box::new(job)).await.map_err(|_| WriterError::Closed)?;
        match answer.await.map_err(|_| WriterError::Closed)? {
            Ok(result) => result,
            Err(panic) => resume_unwind(panic),
        }
    }

    /// Its counts so far.
    pub fn stats(&self) -> WriterStats {
        WriterStats {
            groups: self.counts.groups.load(Ordering::Relaxed),
            writes: self.counts.writes.load(Ordering::Relaxed),
        }
    }

    /// Accepts no further writes, commits what is queued and closes the connection.
    pub async fn close(&self) {
        if let Err(stuck) = self.tasks.shutdown(CLOSE_WITHIN).await {
            tracing::warn!("{stuck}");
        }
    }
}

async fn run(
    name: &'static str,
    mut db: SqliteConnection,
    mut waiting: mpsc::Receiver<Box<dyn Job>>,
    closing: CancellationToken,
    counts: Arc<Counts>,
) {
    let mut taken = Vec::with_capacity(GROUP);
    loop {
        let count = tokio::select! {
            count = waiting.recv_many(&mut taken, GROUP) => count,
            () = closing.cancelled(), if !waiting.is_closed() => {
                // Writes that are queued already are still committed.
                waiting.close();
                continue;
            }
        };
        if count == 0 {
            break;
        }
        let mut queue: VecDeque<_> = taken.drain(..).collect();
        while !queue.is_empty() {
            commit(&mut db, &mut queue, &counts).await;
        }
    }
    if let Err(error) = db.close().await {
        tracing::warn!(database = name, %error, "database not closed cleanly, its journal is replayed at the next start");
    }
}
